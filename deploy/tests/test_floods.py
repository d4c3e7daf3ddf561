"""Clients that use as much as they can before signing in, at a service and through the gateway."""

import contextlib
import pathlib
import socket
import threading
import time

import h2.config
import h2.connection
import h2.exceptions
import h2.settings
import pytest

from conftest import until

CONNECTIONS = 40
CALLS = 100
# Bytes that each call sends of its message, which may have up to 64 KiB.
SENT = 60_000
MEMORY_MIB = 96


class Stalled(threading.Thread):
    """Connection with calls whose messages never arrive completely."""

    def __init__(self, address, source):
        super().__init__(daemon=True)
        self.socket = socket.socket()
        self.socket.bind((source, 0))
        host, port = address.split(":")
        self.socket.connect((host, int(port)))
        self.socket.settimeout(20)
        self.refused = 0
        self.http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))

    def run(self):
        with contextlib.suppress(OSError, h2.exceptions.H2Error):
            self.http2.initiate_connection()
            left = {}
            for _ in range(CALLS):
                stream = self.http2.get_next_available_stream_id()
                headers = [
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":authority", "localhost"),
                    (":path", "/auth.v1.AuthService/Login"),
                    ("content-type", "application/grpc"),
                    ("te", "trailers"),
                ]
                self.http2.send_headers(stream, headers)
                left[stream] = SENT
            while True:
                for stream in list(left):
                    with contextlib.suppress(h2.exceptions.ProtocolError):
                        self.send(stream, left)
                self.socket.sendall(self.http2.data_to_send())
                if not (received := self.socket.recv(1 << 16)):
                    return
                for event in self.http2.receive_data(received):
                    if isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                        left.pop(event.stream_id, None)
                        self.refused += 1

    def send(self, stream, left):
        while left[stream] and (window := self.http2.local_flow_control_window(stream)):
            size = min(left[stream], window, self.http2.max_outbound_frame_size)
            self.http2.send_data(stream, bytes(size))
            left[stream] -= size


def peak_memory(process):
    """Returns the peak memory of a process in MiB."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("path", ["auth", "port"], ids=["service", "gateway"])
@pytest.mark.parametrize("addresses", [1, 50])
def test_unfinished_messages_take_bounded_memory(own_gateway, path, addresses):
    deployment = own_gateway()
    token = deployment.player()
    process = deployment.standalone.process
    idle = peak_memory(process)
    attackers = [
        Stalled(deployment.at(path), f"127.0.1.{1 + number % addresses}") for number in range(CONNECTIONS)
    ]
    for attacker in attackers:
        attacker.start()
    # The budget of 32 MiB has room for about 450 such calls, and an eighth of it for 56: the others are refused.
    until(lambda: sum(attacker.refused for attacker in attackers) >= 500, "calls are refused", seconds=40)
    slowest = 0
    for _ in range(20):
        began = time.monotonic()
        assert deployment.rest(token).get("/v1/me").status_code == 200
        slowest = max(slowest, time.monotonic() - began)
    assert peak_memory(process) < idle + MEMORY_MIB
    for attacker in attackers:
        attacker.socket.close()
    print(f"{peak_memory(process) - idle:.0f} MiB above idle, the slowest of 20 reads took {slowest * 1000:.0f} ms")


class Unread(threading.Thread):
    """Connection with the maximum number of complete calls, whose client never reads the answers."""

    def __init__(self, address, source):
        super().__init__(daemon=True)
        self.socket = socket.socket()
        self.socket.bind((source, 0))
        host, port = address.split(":")
        self.socket.connect((host, int(port)))
        self.socket.settimeout(20)
        self.given_up = 0
        self.http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        no_room = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
        self.http2.local_settings = h2.settings.Settings(client=True, initial_values=no_room)

    def run(self):
        with contextlib.suppress(OSError, h2.exceptions.H2Error):
            self.http2.initiate_connection()
            for _ in range(CALLS):
                stream = self.http2.get_next_available_stream_id()
                headers = [
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":authority", "localhost"),
                    (":path", "/auth.v1.AccountService/GetClientAddress"),
                    ("content-type", "application/grpc"),
                    ("te", "trailers"),
                ]
                self.http2.send_headers(stream, headers)
                self.http2.send_data(stream, bytes(5), end_stream=True)
            while True:
                self.socket.sendall(self.http2.data_to_send())
                if not (received := self.socket.recv(1 << 16)):
                    return
                for event in self.http2.receive_data(received):
                    if isinstance(event, h2.events.StreamReset):
                        self.given_up += 1


@pytest.mark.parametrize("addresses", [1, 50])
def test_unread_responses_take_bounded_memory(own_gateway, addresses):
    deployment = own_gateway()
    token = deployment.player()
    process = deployment.standalone.process
    idle = peak_memory(process)
    attackers = [Unread(deployment.at("auth"), f"127.0.1.{1 + number % addresses}") for number in range(150)]
    for attacker in attackers:
        attacker.start()
    # The limits allow 1,600 such unread answers per address and 6,500 in all. Further calls are cancelled at once, the rest after 30 s.
    until(lambda: sum(attacker.given_up for attacker in attackers) >= 150 * CALLS - 7000, "answers are given up", seconds=25)
    assert deployment.rest(token).get("/v1/me").status_code == 200
    assert peak_memory(process) < idle + MEMORY_MIB, f"{peak_memory(process) - idle:.0f} MiB above idle"
    for attacker in attackers:
        attacker.socket.close()
    print(f"{peak_memory(process) - idle:.0f} MiB above idle")
