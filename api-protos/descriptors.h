/* The list of all generated messages, written at build time. Used inside api-protos only. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

extern const ProtobufCMessageDescriptor *const pb_descriptors[];
extern const size_t pb_num_descriptors;
