#include "tls/tls_factory.h"

#include "base/log.h"
#include "tls/secret_files.h"
#include "tls/tls_stats.h"
#include "tls/tls_transport.h"
#include <sched.h>

enum { FACTORY_MAGIC = 0x544c5346 };

struct tls_factory;

/* One needed secret and what there is of it. */
struct slot {
    struct tls_factory *factory;
    struct subscription *subscription; /* NULL: fixed */
    struct tls_secret *secret;         /* a reference; NULL: not there yet */
    struct secret_watch files;         /* of a secret that names some */
    bool settled;
};

struct tls_factory {
    struct transport_factory base;
    uint32_t magic;
    struct tls_secrets *secrets;
    struct tls_settings *settings;
    struct stats_scope *stats;
    /* Readers announce themselves while they take a reference, so that the writer knows when nobody
     * can be about to take one of the version it has replaced. */
    _Atomic(struct tls_config *) current;
    _Atomic(uint32_t) readers;
    struct slot *slots;
    struct task rebuild;
    bool started;
    bool dirty;   /* a secret has changed since the version was built */
    bool settled; /* and the owner was told */
    void (*on_settled)(void *arg);
    void *arg;
};

static struct tls_factory *cast(const struct transport_factory *base)
{
    struct tls_factory *f = CONTAINER_OF((struct transport_factory *)base, struct tls_factory,
                                         base);
    CHECK(f->magic == FACTORY_MAGIC);
    return f;
}

/* --- the current version --------------------------------------------------------------------- */

static struct tls_config *acquire(struct tls_factory *f)
{
    atomic_fetch_add(&f->readers, 1);
    struct tls_config *c = tls_config_ref(atomic_load(&f->current));
    atomic_fetch_sub(&f->readers, 1);
    return c;
}

/* Takes c. The order of both sides is sequential: a reader that is not counted here when readers is
 * read as 0 loads `current` later and gets the new version. */
static void publish(struct tls_factory *f, struct tls_config *c)
{
    struct tls_config *old = atomic_exchange(&f->current, c);
    if (c)
        c->context->num_current++;
    if (old)
        old->context->num_current--;
    while (atomic_load(&f->readers))
        sched_yield(); /* a few instructions of another thread */
    tls_config_unref(old);
}

/* --- secrets -------------------------------------------------------------------------------------
 */

static void log_errors(const struct errors *e)
{
    struct arena a;
    arena_init(&a, 0);
    LOG_WARN(secret, "secrets do not go together, what was there stays: %.*s",
             STR_ARG(errors_text(e, &a)));
    arena_cleanup(&a);
}

static bool complete(const struct tls_factory *f)
{
    for (size_t i = 0; i < f->settings->num_needs; i++) {
        if (!f->slots[i].secret)
            return false;
    }
    return true;
}

/* Joins what there is into a version and makes it the current one. */
static bool build(struct tls_factory *f, struct errors *e)
{
    size_t num = f->settings->num_needs;
    struct tls_secret **secrets = mem_alloc((num + 1) * sizeof(struct tls_secret *));
    for (size_t i = 0; i < num; i++)
        secrets[i] = f->slots[i].secret;
    struct tls_config *c = tls_settings_build(f->settings, secrets, f->stats, e);
    mem_free(secrets);
    if (c)
        publish(f, c);
    return c != NULL;
}

static void check_settled(struct tls_factory *f)
{
    if (f->settled)
        return;
    for (size_t i = 0; i < f->settings->num_needs; i++) {
        if (!f->slots[i].settled)
            return;
    }
    f->settled = true;
    if (f->on_settled)
        f->on_settled(f->arg);
}

/* Once a turn of the loop, however many secrets came in it: a certificate and roots that rotate
 * together are never mixed. */
static void run_rebuild(void *arg)
{
    struct tls_factory *f = arg;
    struct errors e;
    CHECK(f->magic == FACTORY_MAGIC);
    if (f->dirty && complete(f)) {
        errors_init(&e);
        if (build(f, &e))
            tls_stats_inc(f->stats, TLS_CONTEXT_UPDATE_BY_SDS);
        else
            log_errors(&e);
        errors_cleanup(&e);
    }
    f->dirty = false;
    check_settled(f);
}

static void use_secret(struct slot *slot, struct tls_secret *secret)
{
    tls_secret_ref(secret);
    tls_secret_unref(slot->secret);
    slot->secret = secret;
    slot->factory->dirty = true;
    loop_post(slot->factory->secrets->loop, &slot->factory->rebuild);
}

static void on_files_changed(void *arg, struct tls_secret *now)
{
    use_secret(arg, now);
}

static void on_update(void *arg, void *compiled)
{
    struct slot *slot = arg;
    struct tls_factory *f = slot->factory;
    struct tls_secret *secret = compiled;
    const struct tls_secret_need *need = &f->settings->needs[slot - f->slots];
    slot->settled = true;
    if (secret->kind == need->kind) {
        secret_files_unwatch(f->secrets, &slot->files);
        use_secret(slot, secret);
        slot->files = (struct secret_watch){.changed = on_files_changed, .arg = slot};
        secret_files_watch(f->secrets, secret, &slot->files);
    } else {
        LOG_WARN(secret, "secret %.*s is a %s where a %s is needed; not used", STR_ARG(need->name),
                 tls_secret_kind_name(secret->kind), tls_secret_kind_name(need->kind));
    }
    loop_post(f->secrets->loop, &f->rebuild);
}

/* What was delivered stays: last good for ever, also when the server says that it is gone. */
static void on_absent(void *arg, enum xds_absent why)
{
    (void)why;
    struct slot *slot = arg;
    slot->settled = true;
    loop_post(slot->factory->secrets->loop, &slot->factory->rebuild);
}

static void on_error(void *arg, struct str text)
{
    (void)text;
    on_absent(arg, XDS_ABSENT_TIMEOUT);
}

static const struct watcher_ops secret_watcher = {
    .on_update = on_update,
    .on_absent = on_absent,
    .on_error = on_error,
};

/* --- the factory -------------------------------------------------------------------------------
 */

static struct transport *on_open(struct transport_factory *base, int fd,
                                 const struct transport_options *opts)
{
    struct tls_factory *f = cast(base);
    struct tls_config *c = acquire(f);
    if (!c) {
        tls_stats_inc(f->stats, f->settings->params.server ? TLS_DOWNSTREAM_NOT_READY
                                                           : TLS_UPSTREAM_NOT_READY);
        return NULL;
    }
    struct transport *t = tls_transport_open(c, fd, opts);
    tls_config_unref(c);
    return t;
}

static bool on_ready(struct transport_factory *base)
{
    return atomic_load(&cast(base)->current) != NULL;
}

static void on_free(struct transport_factory *base)
{
    struct tls_factory *f = cast(base);
    task_cancel(&f->rebuild);
    for (size_t i = 0; i < f->settings->num_needs; i++) {
        xds_unsubscribe(&f->slots[i].subscription);
        secret_files_unwatch(f->secrets, &f->slots[i].files);
        tls_secret_unref(f->slots[i].secret);
    }
    publish(f, NULL);
    tls_settings_free(&f->settings);
    mem_free(f->slots);
    f->magic = 0;
    mem_free(f);
}

static const struct transport_factory_ops factory_ops = {
    .open = on_open,
    .ready = on_ready,
    .free = on_free,
};

static struct transport_factory *factory_new(struct tls_settings *settings,
                                             struct tls_secrets *secrets)
{
    if (!settings)
        return NULL;
    struct tls_factory *f = NEW(struct tls_factory);
    f->base.ops = &factory_ops;
    refcount_init(&f->base.refs);
    f->magic = FACTORY_MAGIC;
    f->secrets = secrets;
    f->settings = settings;
    f->slots = mem_zalloc((settings->num_needs + 1) * sizeof(*f->slots));
    task_init(&f->rebuild, run_rebuild, f);
    for (size_t i = 0; i < settings->num_needs; i++) {
        f->slots[i].factory = f;
        f->slots[i].secret = tls_secret_ref(settings->needs[i].fixed);
        f->slots[i].settled = f->slots[i].secret != NULL;
    }
    return &f->base;
}

struct transport_factory *tls_factory_downstream(const TLS_V3(DownstreamTlsContext) * from,
                                                 struct tls_secrets *secrets,
                                                 const struct xds_source *parent, struct errors *e)
{
    return factory_new(tls_settings_of_downstream(from, secrets, parent, e), secrets);
}

struct transport_factory *tls_factory_upstream(const TLS_V3(UpstreamTlsContext) * from,
                                               struct tls_secrets *secrets,
                                               const struct xds_source *parent, struct errors *e)
{
    return factory_new(tls_settings_of_upstream(from, secrets, parent, e), secrets);
}

static void subscribe(struct tls_factory *f)
{
    for (size_t i = 0; i < f->settings->num_needs; i++) {
        const struct tls_secret_need *need = &f->settings->needs[i];
        const struct stats_part parts[] = {{STR("sds"), NULL}, {need->name, NULL}};
        const struct xds_stats_prefix prefix = {parts, ARRAY_LEN(parts)};
        if (need->fixed)
            continue;
        f->slots[i].subscription = xds_subscribe(f->secrets->xds, need->source, &tls_secret_ops,
                                                 need->name, &prefix, &secret_watcher,
                                                 &f->slots[i]);
    }
}

void tls_factory_start(struct transport_factory *base, const struct tls_factory_start *how)
{
    struct tls_factory *f = cast(base);
    struct errors e;
    f->on_settled = how->settled;
    f->arg = how->arg;
    f->settled = false;
    if (f->started) {
        loop_post(f->secrets->loop, &f->rebuild);
        return;
    }
    f->started = true;
    f->stats = how->stats;
    if (f->settings->num_remote) {
        subscribe(f);
        return;
    }
    errors_init(&e);
    if (!build(f, &e))
        log_errors(&e);
    errors_cleanup(&e);
    loop_post(f->secrets->loop, &f->rebuild);
}

void tls_factory_stop(struct transport_factory *base)
{
    struct tls_factory *f = cast(base);
    f->on_settled = NULL;
    f->arg = NULL;
}

struct tls_config *tls_factory_current(struct transport_factory *base)
{
    return acquire(cast(base));
}
