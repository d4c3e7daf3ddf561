"""Reflection, health and metrics, for a client that knows only a service's address."""

import pytest
from conftest import get
from reflection import ReflectedClient
from services import HEALTH

OFFERED = {
    "auth_address": [
        *["auth.v1.AccessFeedService", "auth.v1.AccountService", "auth.v1.AuditService", "auth.v1.AuthService"],
        *["auth.v1.KeyService", "auth.v1.RbacService", "auth.v1.ServiceAccountService", "auth.v1.UserService"],
    ],
    "game_address": ["game.v1.GameService", "game.v1.HistoryService", "game.v1.LeaderboardService"],
}


@pytest.mark.parametrize("name", OFFERED)
def test_both_versions_of_reflection_describe_the_same_services(services, name):
    older, newer = (ReflectedClient(getattr(services, name), version) for version in ["v1alpha", "v1"])
    assert older.service_names() == newer.service_names() == sorted([*OFFERED[name], "grpc.health.v1.Health"])
    for service in OFFERED[name]:
        assert older.file_of(service) == newer.file_of(service), service


@pytest.mark.parametrize("name", OFFERED)
def test_the_server_and_each_of_its_services_are_serving(services, name):
    client = ReflectedClient(getattr(services, name))
    for service in ["", *OFFERED[name]]:
        assert client.call(f"{HEALTH}/Check", {"service": service})["status"] == "SERVING", service


@pytest.mark.parametrize("name", ["auth_http", "game_http"])
def test_the_http_port_says_that_the_service_is_ready_and_has_metrics(services, name):
    address = getattr(services, name)
    assert get(f"http://{address}/readyz").status_code == 200
    assert "# TYPE " in get(f"http://{address}/metrics").text
