"""Socket addresses as people and browsers write them."""

from __future__ import annotations

import socket


def http_address(host: str, port: int | str) -> str:
    """``http://HOST:PORT``, with the brackets of RFC 3986, 3.2.2 around an IPv6 address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ipv6_works() -> bool:
    """Whether this machine has an IPv6 address; many containers have none, though their name service offers one."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
