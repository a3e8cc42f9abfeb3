/* The smaller parts of a connection manager's configuration, compiled: who asks, what is said of it
 * and of the scheme, request ids, what the log tells before the end. */
#pragma once

#include "base/errors.h"

struct compile_env;
struct hcm_config;

/* hcm_options_compile reads its fields of the HttpConnectionManager message into c; errors go to e.
 * What it made of c is given back by hcm_config_free. Main. */
void hcm_options_compile(struct hcm_config *c, const struct compile_env *env, const void *msg,
                         struct errors *e);
