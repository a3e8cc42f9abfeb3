/* Short names for the generated messages of envoy.extensions.transport_sockets.tls.v3. */
#pragma once

#include "envoy/extensions/transport_sockets/tls/v3/common.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"

#define TLS_V3(name) Envoy__Extensions__TransportSockets__Tls__V3__##name
#define TLS_V3_ENUM(name) ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__##name
