"""The grammar of the commands for images that are there, their registries and their signatures."""

from __future__ import annotations

from pathlib import Path

from afenv.cli.parser_archive import add_to_verify
from afenv.cli.parser_common import Command, add_attaching, add_json


def add_images(command: Command) -> None:
    """Add ``inspect``, ``diff``, ``push`` and ``pull``."""
    sub = command("inspect", "show an image")
    sub.add_argument(
        "image", type=Path, help="an OCI layout, an image archive, a SIF, a squashfs file, or a folder"
    )
    add_json(sub)

    sub = command("diff", "show what differs between two images or locks", "Exit 0 if nothing does, else 1.")
    sub.add_argument("a", type=Path)
    sub.add_argument("b", type=Path)
    add_json(sub)

    sub = command(
        "push", "push an image to a registry", "Images for several platforms, SIFs, locks and manifests too."
    )
    sub.add_argument(
        "image", type=Path, help="an OCI layout (folder or tar archive), a SIF, afenv.lock or afenv.yaml"
    )
    sub.add_argument("reference", help="HOST[:PORT]/NAME[:TAG]")
    sub.add_argument(
        "--mount-from", metavar="NAME", help="a repository of the same registry that has some of the layers"
    )
    add_attaching(sub)
    add_json(sub)

    sub = command(
        "pull", "pull an image from a registry", "A SIF stays one; of other artifacts the files are written."
    )
    sub.add_argument("reference", help="[HOST[:PORT]/]NAME[:TAG][@DIGEST]")
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="where to write: a folder, an archive (.tar) or a SIF (.sif); default NAME.oci, or NAME.sif",
    )
    sub.add_argument(
        "--platform", metavar="PLATFORM", help="such as linux/arm64 (default: that of this machine)"
    )
    sub.add_argument("--all-platforms", action="store_true", help="the whole index, with all its images")
    add_json(sub)


def add_signing(command: Command) -> None:
    """Add ``sign`` and ``verify``."""
    sub = command("sign", "sign an image and what is attached to it", "The signatures are attached to it.")
    sub.add_argument("image", help="an OCI layout (a folder), or HOST[:PORT]/NAME[:TAG]")
    group = sub.add_mutually_exclusive_group(required=True)
    group.add_argument("--key", type=Path, metavar="FILE", help="sign with the private key in FILE")
    group.add_argument(
        "--keyless", action="store_true", help="sign as who is logged in, by sigstore (needs the network)"
    )
    add_json(sub)

    sub = command(
        "verify",
        "check an image's signature, provenance and bill of materials; or a whole archive",
        "Says who built what from which commit. Exit 0 if all is well, 1 if something is missing or against "
        "the policy, 5 if something contradicts the image or the archive.",
    )
    sub.add_argument(
        "image",
        help="an OCI layout (folder or archive), HOST[:PORT]/NAME[:TAG], or a bag of `afenv archive`",
    )
    sub.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="a public key whose signatures count (may be repeated)",
    )
    sub.add_argument("--policy", type=Path, metavar="FILE", help="what a facility asks of images")
    sub.add_argument("--identity", metavar="ID", help="who may have signed without a key, by sigstore")
    sub.add_argument("--issuer", metavar="URL", help="who vouches for that identity")
    sub.add_argument(
        "--no-content", action="store_true", help="do not read the layers to compare them with the bill"
    )
    sub.add_argument("--platform", metavar="PLATFORM", help="which image of a multi-platform one")
    add_to_verify(sub)
    add_json(sub)


def add_keeping(command: Command) -> None:
    """Add ``key`` and ``cache``."""
    sub = command("key", "make a key for signatures, or show what a public key is known by")
    sub.add_argument("action", choices=("generate", "show"))
    sub.add_argument("file", type=Path, help="generate: the private key to write, beside it NAME.pub")
    sub.add_argument(
        "--kind", choices=("ecdsa-p256", "ed25519"), default="ecdsa-p256", help="default: %(default)s"
    )
    sub.add_argument("--no-password", action="store_true", help="do not encrypt the private key")
    add_json(sub)

    sub = command("cache", "show, prune or verify the content store")
    sub.add_argument("action", nargs="?", choices=("show", "prune", "verify"), default="show")
    sub.add_argument(
        "--older-than", metavar="DAYS", type=float, help="prune: what was not used for DAYS days"
    )
    sub.add_argument(
        "--keep", metavar="GB", type=float, help="prune: the most recently used GB gigabytes stay"
    )
    sub.add_argument("--repair", action="store_true", help="verify: remove what is damaged")
    add_json(sub)
