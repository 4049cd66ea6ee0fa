import os
import socket

import pytest

from deploy.ports import pick_free, require_free
from gateway.errors import ConfigurationError


def test_a_free_port_is_accepted() -> None:
    require_free("127.0.0.1", pick_free())


def test_a_taken_port_is_refused_with_who_has_it_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=rf"port {port} .*pid {os.getpid()}\).* with --port"
        ):
            require_free("127.0.0.1", port)


def test_an_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1 cannot be used"):
        require_free("192.0.2.1", pick_free())


def test_picked_ports_are_below_those_of_outgoing_connections() -> None:
    assert all(1024 <= pick_free() < 32_768 for _ in range(20))
