// covers: xds/delta.c
/* A DeltaDiscoveryResponse. */
#include "test/fuzz/xds_fixture.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    fuzz_stream(true, data, len);
    return 0;
}
