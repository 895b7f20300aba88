"""The system layer: what maintainer scripts would have made."""

from __future__ import annotations

import io
import struct
import tarfile
from dataclasses import replace

import pytest
from isal import igzip

from afenv.documents.lock import LockedEnvironment
from afenv.layers.deb import write_debs
from afenv.layers.model import PACKAGE_MTIME
from afenv.layers.system import write_system
from afenv.layers.system_accounts import account_files, shell_files
from afenv.layers.system_certificates import subject_hash, trusted
from afenv.layers.system_libraries import cache_file, library_names, search_folders
from afenv.layers.writer import LayerWriter


class Blob:
    """A blob in memory."""

    def __init__(self):
        self.data = b""

    @property
    def size(self):
        return len(self.data)

    def write(self, data):
        self.data += bytes(data)
        return len(data)

    def digest(self):
        return ""


def environment_of(packages):
    return LockedEnvironment(
        request="",
        platform="linux/amd64",
        as_of="2026-01-01T00:00:00Z",
        debs=tuple(deb for deb, _ in packages),
    )


def system_blob(packages, store=None, environment=None):
    blob = Blob()
    writer = LayerWriter(blob, mtime=PACKAGE_MTIME)
    paths = {deb.file.sha256: path for deb, path in packages}
    warnings = write_system(environment or environment_of(packages), paths, writer, store=store)
    writer.finish()
    return blob.data, warnings


def system_of(*packages):
    """The members of the system layer by path, and the warnings."""
    data, warnings = system_blob(packages)
    with tarfile.open(fileobj=io.BytesIO(igzip.decompress(data))) as tar:
        members = {}
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            members[info.name] = (info, file.read() if file else b"")
    return members, warnings


def base(make_deb):
    return [
        make_deb(
            "base-files",
            [
                ("./etc/", "directory", None),
                ("./etc/debian_version", "file", b"12\n"),
                ("./etc/dpkg/origins/debian", "file", b"Vendor: Debian\n"),
                ("./root/", "directory 0700", None),
                ("./usr/share/base-files/profile", "file", b"# profile\n"),
                ("./usr/share/base-files/dot.bashrc", "file", b"# bashrc\n"),
            ],
            control={"conffiles": "/etc/debian_version\n"},
            Essential="yes",
            Multi_Arch="foreign",
        ),
        make_deb(
            "base-passwd",
            [
                (
                    "./usr/share/base-passwd/passwd.master",
                    "file",
                    b"root:*:0:0:root:/root:/bin/bash\nmail:*:8:8:mail:/var/mail:/usr/sbin/nologin\n",
                ),
                ("./usr/share/base-passwd/group.master", "file", b"root:*:0:\nmail:*:8:\n"),
            ],
        ),
        make_deb(
            "bash",
            [
                ("./bin/bash", "file 755", b"\x7fELF"),
                ("./etc/skel/.bashrc", "file", b"# skeleton\n"),
                ("./usr/share/debianutils/shells.d/bash", "file", b"/bin/bash\n"),
            ],
            control={"conffiles": "/etc/skel/.bashrc\n"},
        ),
        make_deb(
            "libc6",
            [
                ("./etc/ld.so.conf", "file", b"include /etc/ld.so.conf.d/*.conf\n"),
                ("./etc/ld.so.conf.d/x86_64-linux-gnu.conf", "file", b"/usr/lib/x86_64-linux-gnu\n"),
                ("./lib64/ld-linux-x86-64.so.2", "symlink", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
                ("./lib/x86_64-linux-gnu/libc.so.6", "file", b"\x7fELF"),
            ],
            Multi_Arch="same",
        ),
    ]


def test_the_base(make_deb):
    members, warnings = system_of(*base(make_deb))
    assert warnings == []
    links = {name: info.linkname for name, (info, _) in members.items() if info.issym()}
    assert links == {
        "bin": "usr/bin",
        "sbin": "usr/sbin",
        "lib": "usr/lib",
        "lib64": "usr/lib64",
        "etc/dpkg/origins/default": "debian",
        "usr/local/man": "share/man",
        "var/lock": "/run/lock",
        "var/run": "/run",
        "var/spool/mail": "../mail",
    }
    modes = {name: info.mode for name, (info, _) in members.items()}
    assert modes["tmp"] == modes["var/tmp"] == modes["run/lock"] == modes["home/analyst"] == 0o1777
    assert modes["root"] == 0o700
    assert members["etc/profile"][1] == b"# profile\n"
    assert members["root/.bashrc"][1] == b"# bashrc\n"
    assert members["home/analyst/.bashrc"][1] == b"# skeleton\n"
    assert "etc/localtime" not in members
    assert all(info.uid == info.gid == 0 for info, _ in members.values())
    assert list(members) == sorted(members)


def test_accounts(make_deb):
    members, _ = system_of(*base(make_deb))
    assert members["etc/passwd"][1].splitlines() == [
        b"root:x:0:0:root:/root:/bin/bash",
        b"mail:x:8:8:mail:/var/mail:/usr/sbin/nologin",
        b"analyst:x:1000:1000:analyst:/home/analyst:/bin/bash",
    ]
    assert members["etc/group"][1].endswith(b"mail:x:8:\nanalyst:x:1000:\n")
    info, shadow = members["etc/shadow"]
    assert info.mode == 0o640
    assert all(line.split(b":")[1:3] == [b"*", b""] for line in shadow.splitlines())
    assert len(shadow.splitlines()) == 3


def test_accounts_without_masters():
    files = account_files(b"", b"", shell="/bin/sh")
    assert [line.split(b":")[0] for line in files["etc/passwd"][1].splitlines()] == [
        b"root",
        b"nobody",
        b"analyst",
    ]


def test_shells_are_listed_under_both_of_their_paths():
    shells, state = shell_files(
        b"# shells\n/bin/sh\n", {"b": b"/bin/b # x\n", "a": b"/usr/bin/a\n"}, {"bin": "usr/bin"}
    )
    assert shells == b"# shells\n/bin/sh\n/usr/bin/sh\n/usr/bin/a\n/bin/b \n/usr/bin/b \n"
    assert state == b"/bin/sh\n/usr/bin/sh\n/usr/bin/a\n/bin/b \n/usr/bin/b \n"


def test_the_package_list(make_deb):
    members, _ = system_of(*base(make_deb))
    status = members["var/lib/dpkg/status"][1].decode()
    stanzas = status.split("\n\n")
    assert [stanza.split("\n")[0] for stanza in stanzas] == [
        "Package: base-files",
        "Package: base-passwd",
        "Package: bash",
        "Package: libc6",
    ]
    assert stanzas[0].split("\n") == [
        "Package: base-files",
        "Essential: yes",
        "Status: install ok installed",
        "Architecture: amd64",
        "Multi-Arch: foreign",
        "Version: 1.0",
        "Conffiles:",
        " /etc/debian_version 2737b49252e2a4c0fe4c342e92b13285",
        "Description: a sample",
    ]
    assert members["var/lib/dpkg/info/format"][1] == b"1\n"


def test_triggers(make_deb):
    package = make_deb(
        "sample",
        control={
            "triggers": "#\ninterest-noawait /usr/lib/x\ninterest ldconfig # y\nactivate z\ninterest ../x\n"
        },
        Multi_Arch="same",
    )
    members, _ = system_of(package)
    folder = "var/lib/dpkg/triggers"
    found = {name: data for name, (info, data) in members.items() if name.startswith(folder) and info.isreg()}
    assert found == {
        f"{folder}/File": b"/usr/lib/x sample:amd64/noawait\n",
        f"{folder}/ldconfig": b"sample:amd64\n",
        f"{folder}/Unincorp": b"",
    }


def test_alternatives(make_deb):
    script = (
        "#!/bin/sh\nupdate-alternatives --install /bin/pager pager /usr/bin/less 77"
        " --slave /usr/share/man/pager.1 pager.1 /usr/share/man/less.1"
        " --slave /usr/share/man/x.1 x.1 /usr/share/man/absent.1\n"
    )
    less = make_deb(
        "less",
        [("./usr/bin/less", "file 755", b""), ("./usr/share/man/less.1", "symlink", "more.1")],
        control={"postinst": script},
    )
    members, warnings = system_of(less)
    assert warnings == []
    assert members["usr/bin/pager"][0].linkname == "/etc/alternatives/pager"
    assert members["etc/alternatives/pager"][0].linkname == "/usr/bin/less"
    assert members["usr/share/man/pager.1"][0].linkname == "/etc/alternatives/pager.1"
    assert "usr/share/man/x.1" not in members
    assert members["var/lib/dpkg/alternatives/pager"][1].startswith(b"auto\n/bin/pager\n")


def test_an_alternative_does_not_take_the_place_of_a_file(make_deb):
    script = "#!/bin/sh\nupdate-alternatives --install /usr/bin/x x /usr/bin/y 1\n"
    one = make_deb("one", [("./usr/bin/y", "file", b"")], control={"postinst": script})
    two = make_deb("two", [("./bin/x", "file", b"")])
    members, warnings = system_of(one, two)
    assert "usr/bin/x" not in members
    assert warnings == ["/usr/bin/x is a file of two; no alternative takes its place"]


def test_what_scripts_would_do_besides_is_said(make_deb):
    one = make_deb(
        "one",
        control={
            "preinst": "#!/bin/sh\ndpkg-divert --rename --divert /usr/bin/x.real --add /usr/bin/x\n",
            "postinst": "#!/bin/sh\nif ! getent passwd one; then adduser --system --quiet one; fi\n",
        },
    )
    two = make_deb("two", [("./usr/bin/x", "file", b"")])
    _, warnings = system_of(one, two)
    assert warnings == [
        "one: it would divert /usr/bin/x, which is left in its place",
        "one: the account or group one is not made",
    ]


def test_the_time_zone(make_deb):
    members, _ = system_of(make_deb("tzdata", [("./usr/share/zoneinfo/Etc/UTC", "file", b"TZif")]))
    assert members["etc/localtime"][0].linkname == "/usr/share/zoneinfo/Etc/UTC"
    assert members["etc/timezone"][1] == b"Etc/UTC\n"


# Self-signed; the hashes are those of `openssl x509 -noout -subject_hash`.
SPACES = b"""-----BEGIN CERTIFICATE-----
MIIB5TCCAYugAwIBAgIUa/Vao88TC327GrDPsddncgItMu0wCgYIKoZIzj0EAwIw
RzELMAkGA1UEBhMCQ0gxHDAaBgNVBAoMEyAgTWl4ZWQgIENBU0UgIG9yZyAxGjAY
BgNVBAMMEcOcbsOvY29kZSBHcsO2w59lMCAXDTI2MTEyMzAwMDIxNloYDzIxMjYx
MDMwMDAwMjE2WjBHMQswCQYDVQQGEwJDSDEcMBoGA1UECgwTICBNaXhlZCAgQ0FT
RSAgb3JnIDEaMBgGA1UEAwwRw5xuw69jb2RlIEdyw7bDn2UwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAQKBNBY3MxdOKFJq3lZuymEfTImWNs8ym3S/Sp+otsSEa/+
Y7t0av6HfeqlHoVIFnuMhoZ0fB2M5IIRQeRflZvXo1MwUTAdBgNVHQ4EFgQUHIHB
J3tRvZhTBvNwYLcDwgQagL0wHwYDVR0jBBgwFoAUHIHBJ3tRvZhTBvNwYLcDwgQa
gL0wDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAkpFFLDlIRSQc
F0Q+OdBXAZhP4OpGBtTt/st1QIygiFICIAVlcQZSuWiOKYXZHwYQKXtvRdEqNM68
/HG6r6hJWU6i
-----END CERTIFICATE-----"""
PLAIN = b"""-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIUOWsA3WJtWBJrX7iCfdfZVCfirFIwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFcGxhaW4wIBcNMjYxMTIzMDAwMjE2WhgPMjEyNjEwMzAwMDAy
MTZaMBAxDjAMBgNVBAMMBXBsYWluMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
Ld8bjIG5w60X96rEFT1UayEREQ81CyVttYz5X91ZnszCXrlsKJcvSkrqT/cK5g3C
cnpFd32fIDPwf+sv3QdVrKNTMFEwHQYDVR0OBBYEFE4O3Z1GCULTMR3hDlEhHUl0
+qnNMB8GA1UdIwQYMBaAFE4O3Z1GCULTMR3hDlEhHUl0+qnNMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgf9I2ii12jrP3uUC14KXl+BaGvzykMhoH
yCTaEYUC6jwCIQC3jTjHjE4JlqszBDhlr1JSlF1ui1rmvV/v5Bp5ukV1xw==
-----END CERTIFICATE-----
"""
SEVERAL = b"""-----BEGIN CERTIFICATE-----
MIIBtzCCAV2gAwIBAgIUHKEcVCzXGIkHn7zr2UKz2ZW/6d0wCgYIKoZIzj0EAwIw
MDEeMAkGA1UEBhMCQ0gwEQYDVQQKDApUd28gIFBhcnRzMQ4wDAYDVQQDDAVNdWx0
aTAgFw0yNjExMjMwMDAyMTZaGA8yMTI2MTAzMDAwMDIxNlowMDEeMAkGA1UEBhMC
Q0gwEQYDVQQKDApUd28gIFBhcnRzMQ4wDAYDVQQDDAVNdWx0aTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABB6e27t7Vs4lVHH9k+Cbi1c71DBnfKPBNY+j4UpJlISV
qr68IyxFuniy1uhx0vFeDk7+xaW6NvV8kspYE8O7GW+jUzBRMB0GA1UdDgQWBBSj
NZ/H+9HR0Cc/hBbk7oBK77dA/DAfBgNVHSMEGDAWgBSjNZ/H+9HR0Cc/hBbk7oBK
77dA/DAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQDB73sNExKt
5N5jLRK+RNQ3LoRVpHugV8pbA6bJLHMpwwIgdgDe0FaqNrqkvKHl+bVWXjQEz6/h
hvw0/Lnh6wz/Zvs=
-----END CERTIFICATE-----
"""


@pytest.mark.parametrize(
    ("certificate", "value"), [(SPACES, "76561491"), (PLAIN, "3826ed78"), (SEVERAL, "98aaceca")]
)
def test_the_hash_is_that_of_openssl(certificate, value):
    assert subject_hash(certificate) == value


def test_trusted_certificates():
    folder = "usr/share/ca-certificates/mozilla"
    given = {f"{folder}/B (1), x.crt": SPACES, f"{folder}/a.crt": PLAIN, f"{folder}/a2.crt": PLAIN}
    files, links, warnings = trusted({**given, f"{folder}/README": b""})
    assert warnings == []
    assert files["etc/ssl/certs/ca-certificates.crt"] == SPACES + b"\n" + PLAIN + PLAIN
    lines = files["etc/ca-certificates.conf"].decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "mozilla/B (1), x.crt",
        "mozilla/a.crt",
        "mozilla/a2.crt",
    ]
    assert links == {
        "etc/ssl/certs/B_=1=__x.pem": f"/{folder}/B (1), x.crt",
        "etc/ssl/certs/a.pem": f"/{folder}/a.crt",
        "etc/ssl/certs/a2.pem": f"/{folder}/a2.crt",
        "etc/ssl/certs/76561491.0": "B_=1=__x.pem",
        "etc/ssl/certs/3826ed78.0": "a.pem",
    }


@pytest.mark.parametrize(
    "damaged", [b"nothing", PLAIN.replace(b"MIIB", b"AAAA"), PLAIN.replace(b"MIIB", b"%%%%"), PLAIN[:80]]
)
def test_a_certificate_that_is_not_understood_is_reported(damaged):
    _, links, warnings = trusted({"usr/share/ca-certificates/x.crt": damaged})
    assert len(warnings) == 1
    assert set(links) == {"etc/ssl/certs/x.pem"}


def entries_of(data):
    """The names and paths of a cache, read by the format's own structure."""
    assert data[:20] == b"glibc-ld.so.cache1.1"
    count, length, flags = struct.unpack_from("<IIB", data, 20)
    assert flags == 2
    assert len(data) == 48 + 24 * count + length
    return [
        tuple(
            data[offset : data.index(b"\0", offset)].decode()
            for offset in struct.unpack_from("<II", data, at + 4)
        )
        for at in range(48, 48 + 24 * count, 24)
    ]


def test_the_library_cache_is_in_the_order_of_the_loader():
    names = ["libz.so.1", "liba.so.10", "liba.so.9", "liba.so", "liba-x.so.1", "lib1.so.2", "ld-linux.so.2"]
    entries = entries_of(cache_file([(name, f"/l/{name}") for name in names], 0x303))
    assert [name for name, _ in entries] == [
        "lib1.so.2",
        "libz.so.1",
        "liba.so.10",
        "liba.so.9",
        "liba.so",
        "liba-x.so.1",
        "ld-linux.so.2",
    ]
    assert entries[1] == ("libz.so.1", "/l/libz.so.1")


def test_library_names():
    files = ["libx.so.1.2", "liby.so.3", "libm.so", "libm.so.6", "notes.txt", "plugin.so"]
    links = {"libx.so.1": "libx.so.1.2", "libx.so": "libx.so.1", "libm-x.so": "libm.so.6"}
    assert library_names("/usr/lib", files, links) == [
        "libm-x.so",
        "libm.so.6",
        "libx.so",
        "libx.so.1",
        "liby.so.3",
    ]


def test_search_folders():
    files = {
        "etc/ld.so.conf": b"include ld.so.conf.d/*.conf\n/opt/lib/ # x\n",
        "etc/ld.so.conf.d/b.conf": b"/b\n",
        "etc/ld.so.conf.d/a.conf": b"/a\n/lib\n",
        "etc/ld.so.conf.d/c": b"/c\n",
    }
    assert search_folders(files) == ["/a", "/lib", "/b", "/opt/lib", "/usr/lib"]
    assert search_folders({"etc/ld.so.conf": b"include ld.so.conf\n"}) == ["/lib", "/usr/lib"]


def test_libraries_of_the_packages(make_deb):
    members, _ = system_of(*base(make_deb))
    assert entries_of(members["etc/ld.so.cache"][1]) == [("libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6")]


def test_the_layer_depends_on_nothing_but_the_packages(make_deb, store):
    packages = base(make_deb)
    plain, _ = system_blob(packages)
    shuffled, _ = system_blob(packages, environment=environment_of(packages[::-1]))
    writer = LayerWriter(Blob(), mtime=PACKAGE_MTIME)
    write_debs([deb for deb, _ in packages], [path for _, path in packages], writer, store=store)
    kept, _ = system_blob([(deb, path.with_name("absent")) for deb, path in packages], store=store)
    other = replace(environment_of(packages), as_of="2030-01-01T00:00:00Z", request="x")
    later, _ = system_blob(packages, environment=other)
    assert plain == shuffled == kept == later
