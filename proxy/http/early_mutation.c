#include "proxy/http/early_mutation.h"

#include "api-protos/message.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.pb-c.h"
#include "proxy/router/header_steps.h"
#include "proxy/router/matchers.h"

typedef Envoy__Config__Core__V3__TypedExtensionConfig Extension;
typedef Envoy__Extensions__Http__EarlyHeaderMutation__HeaderMutation__V3__HeaderMutation List;

struct early_mutation {
    struct header_steps steps;
    struct regex_list regexes;
};

static void compile_extension(struct early_mutation *all, struct arena *a, const Extension *m,
                              const struct pb_opts *pb, struct errors *e)
{
    struct pb_any any;
    enum pb_any_status status = pb_any_unpack(m->typed_config, a, e, pb, &any);
    bool known =
        any.type ==
        &envoy__extensions__http__early_header_mutation__header_mutation__v3__header_mutation__descriptor;
    const List *list = (const List *)any.message;
    if (status == PB_ANY_OK && known)
        header_steps_add(&all->steps, &all->regexes, a, (void *const *)list->mutations,
                         list->n_mutations, "mutations", e);
    else if (status != PB_ANY_INVALID)
        errors_add(e, NULL, "the early header mutation %.*s is not supported",
                   STR_ARG(any.type_name));
}

struct early_mutation *early_mutation_compile(struct arena *a, void *const *msgs, size_t n,
                                              const struct pb_opts *pb, struct errors *e)
{
    size_t before = e->num_errors;
    struct early_mutation *all = ARENA_NEW(a, struct early_mutation);
    for (size_t i = 0; i < n; i++) {
        size_t outer = errors_push_index(e, "early_header_mutation_extensions", i);
        size_t mark = errors_push(e, "typed_config");
        compile_extension(all, a, msgs[i], pb, e);
        errors_pop(e, mark);
        errors_pop(e, outer);
    }
    if (e->num_errors == before)
        return all;
    early_mutation_cleanup(all);
    return NULL;
}

void early_mutation_cleanup(struct early_mutation *m)
{
    if (m)
        regex_list_free(&m->regexes);
}

void early_mutation_apply(const struct early_mutation *m, struct headers *h,
                          const struct stream_info *si)
{
    header_steps_apply(&m->steps, h, si);
}
