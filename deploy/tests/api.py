"""gRPC without generated code: messages and RPCs come from the descriptor set that the gateway also uses."""

import base64
import hmac
import math
import pathlib
import struct
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

DESCRIPTOR_SET = pathlib.Path(__file__).resolve().parent.parent / "envoy" / "api.binpb"


def _pool():
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes()).file:
        pool.Add(file)
    return pool


POOL = _pool()


def totp(secret):
    """Returns the code that an authenticator app with this secret shows now."""
    key = base64.b32decode(secret.replace(" ", ""))
    mac = hmac.digest(key, struct.pack(">Q", int(time.time()) // 30), "sha1")
    at = mac[-1] & 15
    return f"{(struct.unpack('>I', mac[at : at + 4])[0] & 0x7FFFFFFF) % 10**6:06}"


def rpcs():
    """Returns the descriptor of every RPC by its path, `/package.Service/Method`."""
    found = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes()).file:
        for service in file.service:
            descriptor = POOL.FindServiceByName(f"{file.package}.{service.name}")
            for method in descriptor.methods:
                found[f"/{descriptor.full_name}/{method.name}"] = method
    return found


RPCS = rpcs()


def message(descriptor, fields):
    """Makes a message from JSON."""
    return json_format.ParseDict(fields, message_factory.GetMessageClass(descriptor)(), descriptor_pool=POOL)


def to_json(value):
    """Returns a message as JSON with every field, as the gateway writes it."""
    return json_format.MessageToDict(value, always_print_fields_with_no_presence=True, descriptor_pool=POOL)


class Client:
    """Calls RPCs by their path, with JSON in and out."""

    def __init__(self, channel):
        self.channel = channel

    def method(self, path):
        """Returns the descriptor of an RPC."""
        return RPCS[path]

    def call(self, path, fields=None, token=None, metadata=(), timeout=20):
        method = self.method(path)
        unary = self.channel.unary_unary(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        answer = unary(message(method.input_type, fields or {}), metadata=_metadata(token, metadata), timeout=timeout)
        return to_json(answer)

    def stream(self, path, fields, token, timeout=60):
        """Makes a call with JSON messages."""
        method = self.method(path)
        stream = self.channel.unary_stream(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=lambda data: to_json(message_factory.GetMessageClass(method.output_type).FromString(data)),
        )
        return stream(message(method.input_type, fields), metadata=_metadata(token, ()), timeout=timeout)

    def refused(self, *call, **options):
        """Returns the error with which a call ends."""
        try:
            answer = self.call(*call, **options)
        except grpc.RpcError as error:
            return error
        raise AssertionError(f"not refused: {answer}")

    def refusal(self, *call, **options):
        """Returns the code of a refused call, `domain/REASON`, and the names of the invalid fields."""
        error = self.refused(*call, **options)
        status = status_of(error)
        assert status["code"] == error.code().value[0], error
        by_type = {each["@type"].rpartition("/")[2]: each for each in status["details"]}
        info = by_type.get("google.rpc.ErrorInfo", {"domain": None, "reason": error.details()})
        violations = by_type.get("google.rpc.BadRequest", {"fieldViolations": []})["fieldViolations"]
        return error.code().name, f"{info['domain']}/{info['reason']}", sorted(each["field"] for each in violations)


def _metadata(token, more):
    return [*more, *([("authorization", f"Bearer {token}")] if token else [])]


def reason(details):
    """Returns `ErrorInfo.reason` from the details of an error in JSON."""
    return next((each["reason"] for each in details if each["@type"].endswith("/google.rpc.ErrorInfo")), None)


def status_of(error):
    """Returns the google.rpc.Status of a gRPC error as JSON."""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            status = message_factory.GetMessageClass(POOL.FindMessageTypeByName("google.rpc.Status")).FromString(value)
            return to_json(status)
    return {"code": error.code().value[0], "message": error.details(), "details": []}


def retry_says_the_same_twice(answer):
    """Checks that `retry-after` is the `retryDelay` of the body, rounded up to whole seconds."""
    [retry] = [each for each in answer.json()["details"] if each["@type"].endswith("/google.rpc.RetryInfo")]
    delay = float(retry["retryDelay"].removesuffix("s"))
    assert int(answer.headers["retry-after"]) == math.ceil(delay)
    return delay
