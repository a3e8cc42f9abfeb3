// covers: proxy/health/grpc_health.c
/* The answer of a gRPC health service; and a request for a service whose name the bytes are, read
 * back as an answer: it has no status, so nobody is serving. */
#include "proxy/health/grpc_health.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct str bytes = str_n((const char *)data, len);
    struct arena a;
    if (grpc_health_serving(bytes))
        CHECK(len >= 7);
    arena_init(&a, 0);
    struct str request = grpc_health_request(&a, bytes);
    CHECK(request.len >= len + 5);
    CHECK(!grpc_health_serving(request));
    arena_cleanup(&a);
    return 0;
}
