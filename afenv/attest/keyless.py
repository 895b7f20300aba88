"""Keyless signatures: a short-lived certificate for who is logged in, through the library ``sigstore``.

Signing needs the network (Fulcio, Rekor); verifying does with what the library knows if there is none. Both
need the extra ``afenv[keyless]``.
"""

from __future__ import annotations

from typing import Any

from afenv.attest.keys import PublicKey
from afenv.errors import AfenvError


def _library() -> Any:
    try:
        import sigstore
    except ImportError:
        raise AfenvError(
            "E610", "keyless signatures need the library sigstore", remedy="Install afenv[keyless]."
        ) from None
    return sigstore


class KeylessVerifier:
    """Tells whether a bundle was made by an identity, with sigstore's public instance.

    ``identity`` is an address or the URI of a workflow, ``issuer`` the URL of who vouches for it.
    """

    def __init__(self, identity: str, issuer: str | None) -> None:
        _library()
        self._identity, self._issuer = identity, issuer
        self._verifier: Any = None

    def __call__(self, bundle: bytes) -> PublicKey | None:
        """Who signed, named by the identity; None if it was not that identity."""
        from sigstore.errors import Error, VerificationError
        from sigstore.models import Bundle, InvalidBundle
        from sigstore.verify import Verifier, policy

        if self._verifier is None:
            try:
                self._verifier = Verifier.production()
            except (Error, OSError):  # no network: the trust root that comes with the library
                self._verifier = Verifier.production(offline=True)
        try:
            parsed = Bundle.from_json(bundle)
            self._verifier.verify_dsse(parsed, policy.Identity(identity=self._identity, issuer=self._issuer))
        except (InvalidBundle, VerificationError, ValueError):
            return None
        from cryptography.hazmat.primitives import serialization

        certificate = parsed.signing_certificate.public_bytes(serialization.Encoding.DER)
        return PublicKey(b"", certificate, self._identity)


def sign_keyless(statement: bytes) -> bytes:
    """The bundle of an in-toto statement, signed for who is logged in (a CI job, or a person in a browser).

    E201 without a network, E610 where no identity can be had.
    """
    _library()
    from sigstore.dsse import Statement
    from sigstore.errors import Error
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken, Issuer, detect_credential
    from sigstore.sign import SigningContext

    try:
        config = ClientTrustConfig.production()
        context = SigningContext.from_trust_config(config)
        found = detect_credential()
        token = (
            IdentityToken(found) if found else Issuer(config.signing_config.get_oidc_url()).identity_token()
        )
        with context.signer(token) as signer:
            bundle: str = signer.sign_dsse(Statement(statement)).to_json()
            return bundle.encode()
    except (Error, OSError) as error:
        raise AfenvError("E201", f"sigstore did not sign: {error}") from None
