"""Messages of gRPC's own health and reflection services.

Sources: grpc/health/v1/health.proto and grpc/reflection/v1/reflection.proto (v1alpha has the same fields).
"""

from typing import Any, Final

from strongroom.serving.wire.describe import Description, register

_HEALTH: Final = register(
    Description(
        file="strongroom/health.proto",
        package="grpc.health.v1",
        messages={
            "HealthCheckRequest": {"service": "1 string"},
            "HealthCheckResponse": {"status": "1 enum:HealthCheckResponse.ServingStatus"},
        },
        enums={
            "HealthCheckResponse.ServingStatus": {"UNKNOWN": 0, "SERVING": 1, "NOT_SERVING": 2, "SERVICE_UNKNOWN": 3}
        },
        services={
            "Health": {
                "Check": ("HealthCheckRequest", "HealthCheckResponse", "none"),
                "Watch": ("HealthCheckRequest", "HealthCheckResponse", "response"),
            }
        },
    )
)
HealthCheckRequest: Final = _HEALTH["HealthCheckRequest"]
HealthCheckResponse: Final = _HEALTH["HealthCheckResponse"]


def _reflection(package: str) -> dict[str, Any]:
    return register(
        Description(
            file=f"strongroom/{package}.proto",
            package=package,
            messages={
                "ExtensionRequest": {"containing_type": "1 string", "extension_number": "2 int32"},
                "ServerReflectionRequest": {
                    "host": "1 string",
                    "file_by_filename": "3 string in message_request",
                    "file_containing_symbol": "4 string in message_request",
                    "file_containing_extension": "5 ExtensionRequest in message_request",
                    "all_extension_numbers_of_type": "6 string in message_request",
                    "list_services": "7 string in message_request",
                },
                "FileDescriptorResponse": {"file_descriptor_proto": "1 repeated bytes"},
                "ServiceResponse": {"name": "1 string"},
                "ListServiceResponse": {"service": "1 repeated ServiceResponse"},
                "ErrorResponse": {"error_code": "1 int32", "error_message": "2 string"},
                "ServerReflectionResponse": {
                    "valid_host": "1 string",
                    "original_request": "2 ServerReflectionRequest",
                    "file_descriptor_response": "4 FileDescriptorResponse in message_response",
                    "list_services_response": "6 ListServiceResponse in message_response",
                    "error_response": "7 ErrorResponse in message_response",
                },
            },
            services={
                "ServerReflection": {
                    "ServerReflectionInfo": ("ServerReflectionRequest", "ServerReflectionResponse", "both")
                }
            },
        )
    )


REFLECTION: Final = {package: _reflection(package) for package in ("grpc.reflection.v1", "grpc.reflection.v1alpha")}
"""Package to its message classes."""
