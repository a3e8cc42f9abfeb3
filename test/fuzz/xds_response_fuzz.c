// covers: xds/discovery.c
// covers: xds/ingest.c
/* A DiscoveryResponse. */
#include "test/fuzz/xds_fixture.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    fuzz_stream(false, data, len);
    return 0;
}
