"""Clients without .proto files, which discover RPCs by server reflection."""

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import api


class ReflectionV1(grpc.StreamStreamClientInterceptor):
    """Sends the calls of reflection v1alpha to v1, whose messages are the same on the wire."""

    def intercept_stream_stream(self, continuation, details, requests):
        method = details.method.replace("grpc.reflection.v1alpha.", "grpc.reflection.v1.")
        return continuation(details._replace(method=method), requests)


class ReflectedClient(api.Client):
    """Calls the services at an address as this version of reflection describes them."""

    def __init__(self, address, version="v1"):
        super().__init__(grpc.insecure_channel(address))
        reflection = self.channel if version == "v1alpha" else grpc.intercept_channel(self.channel, ReflectionV1())
        self.database = ProtoReflectionDescriptorDatabase(reflection)
        self.pool = DescriptorPool(self.database)

    def method(self, path):
        _, service, name = path.split("/")
        return self.pool.FindServiceByName(service).FindMethodByName(name)

    def service_names(self):
        return sorted(name for name in self.database.get_services() if not name.startswith("grpc.reflection."))

    def file_of(self, service):
        """Returns the serialized descriptor of the file that declares a service."""
        return self.pool.FindServiceByName(service).file.serialized_pb
