"""TCP ports: is one free, who has it, which one to take."""

import contextlib
import random
import socket
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it comes without type information

from gateway.errors import ConfigurationError

SPAN = 10_000  # how far below the ephemeral ports to look
TRIES = 200
EPHEMERAL_LOW = 32_768  # Linux's default


def require_free(host: str, port: int, option: str = "--port") -> None:
    """Raise `ConfigurationError`, naming who has the port, where it cannot be listened on."""
    try:
        _listen(host, port)
    except OSError as error:
        raise ConfigurationError(
            f"port {port} on {host} cannot be used: {_owner(port) or error.strerror}; "
            f"stop that or choose another port with {option}"
        ) from error


def pick_free(host: str = "127.0.0.1") -> int:
    """Return a free port below the ephemeral ones, where no outgoing connection takes it."""
    low = _ephemeral_low()
    for port in random.sample(range(max(low - SPAN, 1_024), low), TRIES):
        with contextlib.suppress(OSError):
            _listen(host, port)
            return port
    raise ConfigurationError(f"no free port on {host} among {TRIES} tried below {low}")


def _ephemeral_low() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    except OSError:
        return EPHEMERAL_LOW
    return max(int(text.split()[0]), 2_048)


def _listen(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # As servers do: connections of a former server that linger do not matter.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1)


def _owner(port: int) -> str:
    """Return who listens on the port, as far as this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                if connection.pid is None:
                    return "another user's process listens there"
                name = psutil.Process(connection.pid).name()
                return f"{name} (pid {connection.pid}) listens there"
    except psutil.Error:
        return ""
    return ""
