/* The only file that sees gRPC. A channel made from a descriptor never reconnects, so each stream
 * has a channel of its own that goes with it. */
#include "base/alloc.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/obj.h"
#include "xds/transport.h"
#include <fcntl.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <pthread.h>
#include <unistd.h>

enum { CALL_MAGIC = 0x78636131, MAX_HEADERS = 32 };

enum op_kind { OP_START, OP_STATUS, OP_SEND, OP_RECV, NUM_OPS };

struct grpc_client {
    struct mailbox mailbox;
    grpc_completion_queue *cq;
    pthread_t thread;
    size_t max_message;
};

/* One batch under way. The tag of the completion queue is its address. */
struct op {
    struct message msg;
    struct xds_call *call;
    enum op_kind kind;
    bool pending;
    bool ok; /* what the completion queue said */
};

struct xds_call {
    uint32_t magic;
    struct grpc_client *client;
    const struct xds_call_events *ev;
    void *arg;
    grpc_channel *channel;
    grpc_call *call;
    struct op ops[NUM_OPS];
    bool closed;   /* the owner is gone: only wait for what is pending */
    bool has_recv; /* recv holds the message handed out */
    grpc_metadata_array initial, trailing;
    grpc_metadata headers[MAX_HEADERS];
    size_t num_headers;
    grpc_byte_buffer *recv_buffer;
    grpc_slice recv; /* recv_buffer in one piece */
    grpc_status_code status;
    grpc_slice status_text;
};

static struct str slice_str(const grpc_slice *s)
{
    return str_n((const char *)GRPC_SLICE_START_PTR(*s), GRPC_SLICE_LENGTH(*s));
}

static grpc_slice slice_copy(struct str s)
{
    return grpc_slice_from_copied_buffer(s.p ? s.p : "", s.len);
}

static void call_drop_message(struct xds_call *c)
{
    if (!c->has_recv)
        return;
    c->has_recv = false;
    grpc_slice_unref(c->recv);
}

static bool call_idle(const struct xds_call *c)
{
    for (int i = 0; i < NUM_OPS; i++) {
        if (c->ops[i].pending)
            return false;
    }
    return true;
}

static void call_free(struct xds_call *c)
{
    call_drop_message(c);
    for (size_t i = 0; i < c->num_headers; i++) {
        grpc_slice_unref(c->headers[i].key);
        grpc_slice_unref(c->headers[i].value);
    }
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
    grpc_slice_unref(c->status_text);
    grpc_call_unref(c->call);
    grpc_channel_destroy(c->channel);
    c->magic = 0;
    mem_free(c);
}

static void on_op_recv(struct xds_call *c)
{
    if (!c->has_recv)
        return; /* end of the stream: the status says why */
    c->ev->on_message(c->arg, slice_str(&c->recv));
}

/* Runs on the main thread, from the mailbox. */
static void on_op(void *arg)
{
    struct op *op = arg;
    struct xds_call *c = OBJ_CAST(op->call, struct xds_call, CALL_MAGIC);
    op->pending = false;
    if (c->closed) {
        if (call_idle(c))
            call_free(c);
        return;
    }
    switch (op->kind) {
    case OP_START:
        return; /* a failure comes with the status */
    case OP_SEND:
        if (op->ok)
            c->ev->on_sent(c->arg);
        return;
    case OP_RECV:
        on_op_recv(c);
        return;
    case OP_STATUS:
        c->ev->on_close(c->arg, (int)c->status, slice_str(&c->status_text));
        return;
    case NUM_OPS:
        return;
    }
}

/* On the queue's thread: makes the message contiguous here, so that the main thread need not copy
 * tens of megabytes. */
static void flatten(struct xds_call *c)
{
    grpc_byte_buffer_reader reader;
    if (!c->recv_buffer)
        return;
    if (grpc_byte_buffer_reader_init(&reader, c->recv_buffer)) {
        c->recv = grpc_byte_buffer_reader_readall(&reader);
        c->has_recv = true;
        grpc_byte_buffer_reader_destroy(&reader);
    }
    grpc_byte_buffer_destroy(c->recv_buffer);
    c->recv_buffer = NULL;
}

static void *queue_main(void *arg)
{
    struct grpc_client *t = arg;
    for (;;) {
        grpc_event e = grpc_completion_queue_next(t->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (e.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (e.type != GRPC_OP_COMPLETE)
            continue;
        struct op *op = e.tag;
        op->ok = e.success;
        if (op->kind == OP_RECV)
            flatten(op->call);
        mailbox_send(&t->mailbox, &op->msg);
    }
}

/* gRPC would write to stderr in a format of its own. Any thread. */
static void on_grpc_log(gpr_log_func_args *args)
{
    if (args->severity == GPR_LOG_SEVERITY_ERROR)
        LOG_WARN(grpc, "%s", args->message);
    else
        LOG_DEBUG(grpc, "%s", args->message);
}

static void *grpc_transport_start(struct loop *main, size_t max_message)
{
    struct grpc_client *t = NEW(struct grpc_client);
    gpr_set_log_function(on_grpc_log);
    grpc_init();
    t->max_message = max_message;
    mailbox_init(&t->mailbox, main);
    t->cq = grpc_completion_queue_create_for_next(NULL);
    CHECK(pthread_create(&t->thread, NULL, queue_main, t) == 0);
    return t;
}

static void grpc_transport_stop(void *transport)
{
    struct grpc_client *t = transport;
    grpc_completion_queue_shutdown(t->cq);
    pthread_join(t->thread, NULL);
    mailbox_cleanup(&t->mailbox); /* frees the calls that were closing */
    grpc_completion_queue_destroy(t->cq);
    grpc_shutdown();
    mem_free(t);
}

static void call_start_batch(struct xds_call *c, enum op_kind kind, const grpc_op *ops, size_t n)
{
    struct op *op = &c->ops[kind];
    CHECK(!op->pending);
    op->pending = true;
    CHECK(grpc_call_start_batch(c->call, ops, n, op, NULL) == GRPC_CALL_OK);
}

static grpc_channel *channel_open(struct grpc_client *t, int fd)
{
    grpc_arg args[] = {
        {.type = GRPC_ARG_INTEGER,
         .key = GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
         .value.integer = (int)t->max_message},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_ENABLE_RETRIES, .value.integer = 0},
        {.type = GRPC_ARG_STRING,
         .key = GRPC_ARG_PRIMARY_USER_AGENT_STRING,
         .value.string = "attache"},
    };
    grpc_channel_args channel_args = {.num_args = ARRAY_LEN(args), .args = args};
    grpc_channel_credentials *creds = grpc_insecure_credentials_create();
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    grpc_channel *ch = grpc_channel_create_from_fd("xds", fd, creds, &channel_args);
    grpc_channel_credentials_release(creds);
    return ch;
}

static void call_add_headers(struct xds_call *c, const struct xds_call_options *o)
{
    for (size_t i = 0; i < o->num_headers && c->num_headers < MAX_HEADERS; i++) {
        grpc_metadata m = {.key = slice_copy(o->headers[i].name),
                           .value = slice_copy(o->headers[i].value)};
        bool bin = grpc_is_binary_header(m.key);
        if (!grpc_header_key_is_legal(m.key) ||
            (!bin && !grpc_header_nonbin_value_is_legal(m.value))) {
            grpc_slice_unref(m.key);
            grpc_slice_unref(m.value);
            continue;
        }
        c->headers[c->num_headers++] = m;
    }
}

static struct xds_call *grpc_transport_open(void *transport, int fd,
                                            const struct xds_call_options *o,
                                            const struct xds_call_events *ev, void *arg)
{
    struct grpc_client *t = transport;
    struct xds_call *c = NEW(struct xds_call);
    c->magic = CALL_MAGIC;
    c->client = t;
    c->ev = ev;
    c->arg = arg;
    c->status_text = grpc_empty_slice();
    for (int i = 0; i < NUM_OPS; i++) {
        c->ops[i].call = c;
        c->ops[i].kind = (enum op_kind)i;
        c->ops[i].msg.deliver = on_op;
        c->ops[i].msg.arg = &c->ops[i];
    }
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    call_add_headers(c, o);
    c->channel = channel_open(t, fd);
    grpc_slice method = grpc_slice_from_copied_string(o->method);
    grpc_slice authority = slice_copy(o->authority);
    c->call = grpc_channel_create_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, t->cq, method,
                                       o->authority.len ? &authority : NULL,
                                       gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    grpc_slice_unref(method);
    grpc_slice_unref(authority);

    /* A message is delivered only if the initial metadata was asked for too. */
    grpc_op start[2] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                        {.op = GRPC_OP_RECV_INITIAL_METADATA}};
    start[0].data.send_initial_metadata.count = c->num_headers;
    start[0].data.send_initial_metadata.metadata = c->headers;
    start[1].data.recv_initial_metadata.recv_initial_metadata = &c->initial;
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    status.data.recv_status_on_client.trailing_metadata = &c->trailing;
    status.data.recv_status_on_client.status = &c->status;
    status.data.recv_status_on_client.status_details = &c->status_text;
    call_start_batch(c, OP_STATUS, &status, 1);
    call_start_batch(c, OP_START, start, 2);
    return c;
}

static void grpc_transport_send(struct xds_call *c, struct str bytes)
{
    grpc_slice slice = slice_copy(bytes);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    op.data.send_message.send_message = buffer;
    call_start_batch(c, OP_SEND, &op, 1);
    grpc_byte_buffer_destroy(buffer);
    grpc_slice_unref(slice);
}

static void grpc_transport_receive(struct xds_call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &c->recv_buffer;
    call_drop_message(c);
    call_start_batch(c, OP_RECV, &op, 1);
}

static void grpc_transport_close(struct xds_call *c)
{
    c->closed = true;
    grpc_call_cancel(c->call, NULL);
    if (call_idle(c))
        call_free(c);
}

const struct xds_transport_ops grpc_transport = {
    .start = grpc_transport_start,
    .stop = grpc_transport_stop,
    .open = grpc_transport_open,
    .send = grpc_transport_send,
    .receive = grpc_transport_receive,
    .close = grpc_transport_close,
};
