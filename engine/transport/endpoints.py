"""Endpoints: which of them stay on this host, and the rule that nothing else goes unencrypted."""

from __future__ import annotations

import ipaddress

from engine.errors import TransportError


def stays_on_host(endpoint: str) -> bool:
    """Whether an endpoint (`ipc://...`, `tcp://host:port`) cannot be reached from other hosts."""
    if not endpoint.startswith("tcp://"):
        return True
    return is_loopback(endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]"))


def is_loopback(host: str) -> bool:
    """Whether an address stays on this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_secure(endpoint: str, *, encrypted: bool) -> None:
    """TransportError for plain TCP that reaches beyond this host."""
    if not encrypted and not stays_on_host(endpoint):
        raise TransportError(
            f"{endpoint} is reached from other hosts and would not be encrypted."
            " Make keys (`frameloom keygen NAME --dir KEYS`) and run with `--keys KEYS`"
        )
