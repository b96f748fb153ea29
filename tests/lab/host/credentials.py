# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates of a lab, made for it and of no use anywhere else."""

from __future__ import annotations

from pathlib import Path

from lab.common.command import run
from lab.common.settings import Settings
from lab.layout.addresses import Networks
from lab.layout.scenario import HostPlan

DAYS = "3650"


def ensure_ssh(settings: Settings, networks: Networks) -> None:
    """Make the key that opens all hosts, and the one that all hosts show."""
    folder = settings.ssh_key.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("id_ed25519", "host_ed25519"):
        if not all((folder / f"{name}{suffix}").exists() for suffix in (".pub", "")):
            # Whoever is killed in between leaves half a pair, which is only in the way of a whole one.
            new = {suffix: folder / f"{name}.new{suffix}" for suffix in (".pub", "")}
            for half in new.values():
                half.unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"kvmops-lab-{name}", "-f", new[""]])
            for suffix, half in new.items():
                half.rename(folder / f"{name}{suffix}")
    shown = (folder / "host_ed25519.pub").read_text(encoding="ascii").strip()
    places = [f"{networks.migration.subnet}.*", f"{networks.management.subnet}.*", "h*"]
    settings.known_hosts.write_text(f"{','.join(places)} {shown}\n", encoding="ascii")


def ensure_authority(settings: Settings) -> Path:
    """Make the lab's own certificate authority; return its folder."""
    folder = settings.state / "pki"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / "ca-cert.pem").exists():
        _make_key(folder / "ca-key.pem")
        about = ["-days", DAYS, "-subj", "/CN=kvmops lab", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        run(["openssl", "req", "-x509", "-new", "-key", folder / "ca-key.pem", *about, "-out", folder / "ca-cert.pem"])
    return folder


def _make_key(path: Path) -> None:
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path])


def ensure_certificate(settings: Settings, networks: Networks, host: HostPlan) -> tuple[Path, Path]:
    """Return certificate and key of a host, good as server and as client, for its name and both its addresses."""
    folder = ensure_authority(settings)
    certificate, key = folder / f"{host.name}-cert.pem", folder / f"{host.name}-key.pem"
    if certificate.exists() and key.exists():
        return certificate, key
    request, wishes = folder / f"{host.name}.csr", folder / f"{host.name}.cnf"
    addresses = [networks.migration.host(host.number), networks.management.host(host.number)]
    wishes.write_text(
        "basicConstraints=CA:FALSE\n"
        "keyUsage=critical,digitalSignature,keyEncipherment\n"
        "extendedKeyUsage=serverAuth,clientAuth\n"
        f"subjectAltName=DNS:{host.name},{','.join(f'IP:{address}' for address in addresses)}\n",
        encoding="ascii",
    )
    _make_key(key)
    run(["openssl", "req", "-new", "-key", key, "-subj", f"/CN={host.name}", "-out", request])
    signer: list[str | Path] = ["-CA", folder / "ca-cert.pem", "-CAkey", folder / "ca-key.pem", "-CAcreateserial"]
    run(["openssl", "x509", "-req", "-in", request, *signer, "-days", DAYS, "-extfile", wishes, "-out", certificate])
    return certificate, key


#: `openssl ca` is the only one of its commands that takes both dates.
AUTHORITY = """
[ca]
default_ca=lab
[lab]
database={folder}/index
serial={folder}/serial
new_certs_dir={folder}
default_md=sha256
policy=names
x509_extensions=wishes
[names]
commonName=supplied
[wishes]
basicConstraints=CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth,clientAuth
subjectAltName={names}
"""
PAST, FUTURE = "20210101000000Z", "20600101000000Z"


def bad_certificate(settings: Settings, networks: Networks, host: HostPlan, name: str | None) -> str:
    """Return a certificate for a host's own key that nobody should accept: of another name, or (None) expired."""
    authority = ensure_authority(settings)
    folder = authority / "bad"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    addresses = (networks.migration.host(host.number), networks.management.host(host.number))
    own = ",".join([f"DNS:{host.name}", *(f"IP:{address}" for address in addresses)])
    (folder / "index").touch()
    (folder / "serial").write_text("1000\n", encoding="ascii")
    conf = AUTHORITY.format(folder=folder, names=f"DNS:{name}" if name else own)
    (folder / "conf").write_text(conf, encoding="ascii")
    signer: list[str | Path] = ["-cert", authority / "ca-cert.pem", "-keyfile", authority / "ca-key.pem"]
    signer += ["-config", folder / "conf"]
    about = ["-startdate", "20200101000000Z", "-enddate", FUTURE if name else PAST, "-subj", f"/CN={name or host.name}"]
    request = authority / f"{host.name}.csr"
    run(["openssl", "ca", "-batch", "-notext", *signer, *about, "-in", request, "-out", folder / "made.pem"])
    return (folder / "made.pem").read_text(encoding="ascii")
