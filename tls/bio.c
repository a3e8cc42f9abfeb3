#include "tls/bio.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

struct scratch {
    uint8_t in[TLS_BIO_IN];
    uint8_t out[TLS_BIO_OUT];
};

static _Thread_local struct scratch *thread_scratch;
static pthread_key_t scratch_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

static struct scratch *scratch_get(void)
{
    if (UNLIKELY(!thread_scratch)) {
        thread_scratch = mem_alloc(sizeof(*thread_scratch));
        pthread_setspecific(scratch_key, thread_scratch);
    }
    return thread_scratch;
}

/* Reads once from the socket into the thread's buffer; false if there is nothing to take. */
static bool receive(struct tls_bio *b)
{
    if (b->drained || b->eof)
        return false;
    struct scratch *s = scratch_get();
    ssize_t n;
    do {
        n = recv(b->fd, s->in, sizeof(s->in), 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        b->drained = true;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            b->err = b->recv_err = errno;
        return false;
    }
    if (n == 0) {
        b->eof = true;
        return false;
    }
    b->drained = (size_t)n < sizeof(s->in);
    b->in = s->in;
    b->in_len = (size_t)n;
    b->bytes_in += (uint64_t)n;
    return true;
}

static int on_bio_read(BIO *bio, char *to, int len)
{
    struct tls_bio *b = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    if (b->in_len == 0) {
        mem_free(b->kept);
        b->kept = NULL;
        if (!receive(b)) {
            if (b->eof)
                return 0;
            if (!b->recv_err)
                BIO_set_retry_read(bio);
            return -1;
        }
    }
    size_t n = (size_t)len < b->in_len ? (size_t)len : b->in_len;
    memcpy(to, b->in, n);
    b->in += n;
    b->in_len -= n;
    return (int)n;
}

/* Puts aside what the socket did not take, or what does not fit into the thread's buffer. */
static void keep_out(struct tls_bio *b, const uint8_t *p, size_t len)
{
    if (b->out_len && b->out_off) {
        memmove(b->out, b->out + b->out_off, b->out_len);
    }
    b->out_off = 0;
    b->out = mem_grow_array(b->out, &b->out_cap, b->out_len + len, 1);
    memcpy(b->out + b->out_len, p, len);
    b->out_len += len;
}

static int on_bio_write(BIO *bio, const char *from, int len)
{
    struct tls_bio *b = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    struct scratch *s = scratch_get();
    if (!b->out_len && (size_t)len <= sizeof(s->out) - b->scratch_len) {
        memcpy(s->out + b->scratch_len, from, (size_t)len);
        b->scratch_len += (size_t)len;
        return len;
    }
    /* Once something waits for the socket everything goes behind it. */
    if (b->scratch_len) {
        keep_out(b, s->out, b->scratch_len);
        b->scratch_len = 0;
    }
    keep_out(b, (const uint8_t *)from, (size_t)len);
    return len;
}

static long on_bio_ctrl(BIO *bio, int cmd, long arg, void *ptr)
{
    (void)bio, (void)arg, (void)ptr;
    /* SSL flushes at the end of each flight; the transport sends at the end of the call. */
    return cmd == BIO_CTRL_FLUSH;
}

static void init_once(void)
{
    CHECK(pthread_key_create(&scratch_key, mem_free) == 0);
    method = BIO_meth_new(BIO_get_new_index(), "attache");
    CHECK(method);
    BIO_meth_set_read(method, on_bio_read);
    BIO_meth_set_write(method, on_bio_write);
    BIO_meth_set_ctrl(method, on_bio_ctrl);
}

void tls_bio_init(struct tls_bio *b, int fd, SSL *ssl)
{
    pthread_once(&once, init_once);
    *b = (struct tls_bio){.fd = fd};
    BIO *bio = BIO_new(method);
    CHECK(bio);
    BIO_set_data(bio, b);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
}

void tls_bio_cleanup(struct tls_bio *b)
{
    mem_free(b->kept);
    mem_free(b->out);
    b->kept = b->out = NULL;
    b->in = NULL;
    b->in_len = b->out_len = 0;
}

void tls_bio_begin(struct tls_bio *b)
{
    b->drained = false;
}

/* Sends len bytes; *sent says how many went. */
static enum io_status send_some(struct tls_bio *b, const uint8_t *p, size_t len, size_t *sent)
{
    *sent = 0;
    while (*sent < len) {
        ssize_t n = send(b->fd, p + *sent, len - *sent, MSG_NOSIGNAL);
        if (n >= 0) {
            *sent += (size_t)n;
            b->bytes_out += (uint64_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return IO_AGAIN;
        b->err = errno;
        return IO_ERROR;
    }
    return IO_OK;
}

enum io_status tls_bio_flush(struct tls_bio *b)
{
    size_t sent;
    enum io_status st = IO_OK;
    if (b->out_len) {
        st = send_some(b, b->out + b->out_off, b->out_len, &sent);
        b->out_off += sent;
        b->out_len -= sent;
        if (b->out_len == 0) {
            mem_free(b->out);
            b->out = NULL;
            b->out_off = b->out_cap = 0;
        }
    }
    if (b->scratch_len == 0)
        return st;
    struct scratch *s = scratch_get();
    sent = 0;
    if (st == IO_OK)
        st = send_some(b, s->out, b->scratch_len, &sent);
    if (st == IO_AGAIN)
        keep_out(b, s->out + sent, b->scratch_len - sent);
    b->scratch_len = 0;
    return st;
}

enum io_status tls_bio_end(struct tls_bio *b)
{
    if (b->in_len && !b->kept) {
        uint8_t *kept = mem_alloc(b->in_len);
        memcpy(kept, b->in, b->in_len);
        b->kept = kept;
        b->in = kept;
    }
    if (!b->in_len && b->kept) {
        mem_free(b->kept);
        b->kept = NULL;
    }
    return tls_bio_flush(b);
}

size_t tls_bio_out_room(const struct tls_bio *b)
{
    return b->out_len ? 0 : TLS_BIO_OUT - b->scratch_len;
}
