/* Everything that is looked up by name in a configuration, in one place. A row makes it known. */
#include "proxy/network/hcm.h"
#include "proxy/network/network_filter.h"
#include "proxy/network/tcp_proxy.h"

static const struct network_filter_ops *const network_filters[] = {
    &hcm_filter,
    &tcp_proxy_filter,
};

const struct network_filter_ops *network_filter_find(struct str type_name)
{
    for (size_t i = 0; i < ARRAY_LEN(network_filters); i++) {
        if (str_eq(str_of(network_filters[i]->type_name), type_name))
            return network_filters[i];
    }
    return NULL;
}
