"""What the tests of settings, refusals, storage and TLS share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from harness import Ended

Refused = Callable[..., Ended]
FILE_SECRET = "a-secret-of-the-config-file"


def fatal(ended: Ended) -> list[str]:
    """The FATAL lines of a broker that refused to start as the contract says."""
    assert ended.code == 1, (ended.code, ended.stderr)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("FATAL: ")]
    assert lines, ended.stderr
    assert "FATAL" not in ended.stdout
    assert "panicked" not in ended.stderr
    assert "listening on" not in ended.stdout
    return lines


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def pem(key: Any, **options: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, options.get("form", PrivateFormat.PKCS8), options.get("lock", NoEncryption()))
