/* The version, as --version, /server_info and user_agent_name say it. */
#pragma once

#define ATTACHE_VERSION "0.1.0"
/* revision/version/tree state/build/TLS library, in the shape of Envoy's */
#define ATTACHE_VERSION_TEXT "0/" ATTACHE_VERSION "/Clean/RELEASE/BoringSSL"
#define ATTACHE_API_VERSION "1.40.0"
