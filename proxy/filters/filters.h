/* The HTTP filters, one a file of this folder; each is listed in proxy/extensions.c. */
#pragma once

#include "proxy/http/http_filter.h"

extern const struct http_filter_ops buffer_filter;
