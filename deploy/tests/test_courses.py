"""The example: a third service, as its README says, under the same logins, roles and logouts."""

import uuid

import grpc
import pytest
from conftest import PROGRAMS, Program, free_ports, until
from reflection import ReflectedClient
from replicas import write_secret

import api


class Courses(ReflectedClient):
    """Client that discovers the service by reflection."""

    def call(self, name, fields=None, token=None):
        return super().call(f"/courses.v1.CoursesService/{name}", fields, token)

    def refused_with(self, *call, **options):
        """Returns the code and the reason of a refusal, or None if the call succeeds."""
        try:
            self.call(*call, **options)
        except grpc.RpcError as error:
            return error.code().name, api.reason(api.status_of(error)["details"])
        return None


@pytest.fixture
def courses(gateway, tmp_path):
    client_id = f"courses-{uuid.uuid4().hex[:8]}"
    root = gateway.rest(gateway.administrator())
    made = root.post("/v1/service-accounts", json={"clientId": client_id, "roles": ["service"]})
    assert made.status_code == 200, made.text
    secret = tmp_path / "courses-secret"
    write_secret(secret, made.json()["clientSecret"] + "\n")
    grpc_port, http_port = free_ports(2)
    program = Program(
        [
            *[PROGRAMS / "courses", "--database-url", f"sqlite:{tmp_path / 'courses.db'}", "--auth-grpc-url", f"http://{gateway.at('auth')}"],
            *["--auth-client-id", client_id, "--auth-client-secret-file", secret],
            *["--listen", f"127.0.0.1:{grpc_port}", "--http-listen", f"127.0.0.1:{http_port}"],
        ],
        tmp_path / "courses.log",
    )
    try:
        program.ready(f"http://127.0.0.1:{http_port}/readyz")
        service = Courses(f"127.0.0.1:{grpc_port}", "v1alpha")
        service.client_id = client_id
        yield service
    finally:
        program.stop()


def test_courses_follows_tokens_permissions_and_logouts(gateway, courses):
    token = gateway.player()
    listed = courses.call("ListCourses", token=token)["courses"]
    assert [each["courseId"] for each in listed] == ["forks", "openings", "perfect-play"]
    assert courses.call("GetCourse", {"courseId": "openings"}, token)["course"]["durationMinutes"] == 25
    assert courses.refused_with("GetCourse", {"courseId": "endings"}, token) == ("NOT_FOUND", "COURSE_NOT_FOUND")
    assert courses.refused_with("GetCourse", {}, token) == ("INVALID_ARGUMENT", "FIELDS_INVALID")
    assert courses.refused_with("ListCourses") == ("UNAUTHENTICATED", "TOKEN_MISSING")
    assert courses.refused_with("ListCourses", token=token[:-4] + "AAAA") == ("UNAUTHENTICATED", "TOKEN_INVALID")

    # auth-service knows the permission, and an administrator decides who holds it.
    root = gateway.rest(gateway.administrator())
    permission = root.get("/v1/permissions/courses:read").json()["permission"]
    assert permission["isDeclared"] is True
    held = root.get("/v1/roles/player").json()["role"]["permissions"]
    assert "courses:read" in held
    without = [each for each in held if each != "courses:read"]
    try:
        assert root.post("/v1/roles/player:setPermissions", json={"permissions": without}).status_code == 200
        until(lambda: courses.refused_with("ListCourses", token=token) == ("PERMISSION_DENIED", "PERMISSION_DENIED"), "refused at once", 1)
    finally:
        root.post("/v1/roles/player:setPermissions", json={"permissions": held})
    until(lambda: courses.refused_with("ListCourses", token=token) is None, "and given back", 1)

    assert gateway.rest(token).post("/v1/auth/logout", json={}).status_code == 200
    until(lambda: courses.refused_with("ListCourses", token=token) == ("UNAUTHENTICATED", "TOKEN_REVOKED"), "logged out here too", 1)


def test_an_old_login_deletes_no_course_until_its_user_has_proved_who_they_are(gateway, courses):
    password = (gateway.folder / "data" / "admin-password").read_text().strip()
    logged_in = gateway.rest().post("/v1/auth/login", json={"identifier": "admin", "password": password}).json()
    token = gateway.old_login(logged_in, audience=courses.client_id)
    assert courses.call("ListCourses", token=token)["courses"]
    refused = ("UNAUTHENTICATED", "STEP_UP_REQUIRED")
    assert courses.refused_with("DeleteCourse", {"courseId": "forks"}, token) == refused
    # Someone without the permission is not sent to log in again for nothing.
    player = gateway.old_login(gateway.register())
    assert courses.refused_with("DeleteCourse", {"courseId": "forks"}, player) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    proof = {"password": password, "audience": courses.client_id}
    proved = gateway.rest(gateway.administrator()).post("/v1/me:reauthenticate", json=proof)
    assert proved.status_code == 200, proved.text
    fresh = proved.json()["accessToken"]
    assert courses.call("DeleteCourse", {"courseId": "forks"}, fresh) == {}
    assert courses.refused_with("DeleteCourse", {"courseId": "forks"}, fresh) == ("NOT_FOUND", "COURSE_NOT_FOUND")
