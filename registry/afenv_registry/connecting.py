"""Opening connections to registries: directly, or by way of the proxy that the environment names."""

from __future__ import annotations

import base64
import os
import socket
from typing import Any
from urllib.parse import unquote, urlsplit

from afenv.errors import AfenvError
from afenv_registry.urls import split_host
from afenv_registry.wire import Broken, Wire

PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY")


def connect(scheme: str, netloc: str, timeout: float, stall: float) -> Wire:
    """A connection to the host (and port) of a URL; OSError if there is none, E030 for a bad proxy."""
    host, port = split_host(netloc, 443 if scheme == "https" else 80)
    proxy = _proxy(scheme, host)
    try:
        if proxy is None:
            # a name in bytes spares importing the encoding of names beyond ASCII
            name: Any = host.encode() if host.isascii() else host
            plain = socket.create_connection((name, port), timeout)
        else:
            plain = _tunnel(proxy, host, port, timeout)
    except (ValueError, OverflowError):
        raise OSError(f"{host}:{port} is not the name of a host") from None
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if scheme != "https":
        return Wire(plain, stall)
    from afenv_registry.tls import make_context

    try:
        return Wire(make_context(netloc).wrap_socket(plain, server_hostname=host), stall)
    except BaseException:
        plain.close()
        raise


def _tunnel(proxy: str, host: str, port: int, timeout: float) -> socket.socket:
    """A connection through a proxy (RFC 9110, 9.3.6)."""
    login, _, address = proxy.rpartition("@")
    plain = socket.create_connection(split_host(address, 3128), timeout)
    try:
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        text = f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n"
        if login:
            encoded = base64.b64encode(unquote(login).encode()).decode("ascii")
            text += f"Proxy-Authorization: Basic {encoded}\r\n"
        wire = Wire(plain, timeout)
        wire.send(f"{text}\r\n".encode("latin-1"), None, lambda _: None)
        head = wire.head("HEAD", timeout)
        if head.status != 200:
            raise Broken(f"the proxy answers {head.status}")
    except BaseException:
        plain.close()
        raise
    return plain


def _proxy(scheme: str, host: str) -> str | None:
    """``[USER:PASSWORD@]HOST:PORT`` of the proxy for a host, if there is one; E030 if it is no URL."""
    if not any(name in os.environ for name in PROXIES):
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass(host):
        return None
    from afenv_registry.reference import is_loopback

    if is_loopback(host):
        return None
    try:
        return urlsplit(proxy if "//" in proxy else f"http://{proxy}").netloc
    except ValueError:
        raise AfenvError("E030", "this is not the URL of a proxy", place=f"{scheme}_proxy") from None
