/* Keys of session tickets given by the configuration (session_ticket_keys): the first encrypts, all
 * decrypt. Immutable, counted; made and freed on the main thread, used by any. */
#pragma once

#include "base/errors.h"
#include "base/refcount.h"
#include "tls/dedup.h"
#include "tls/tls_proto.h"
#include <openssl/base.h>

struct tls_ticket_key {
    uint8_t name[16];
    uint8_t hmac[32];
    uint8_t aes[32];
};

struct tls_tickets {
    struct refcount refs;
    struct dedup_key key;
    size_t num;
    struct tls_ticket_key keys[];
};

/* tls_tickets_new reads the keys, each of exactly 80 bytes; NULL with errors below the current
 * path. */
struct tls_tickets *tls_tickets_new(const TLS_V3(TlsSessionTicketKeys) * from, struct errors *e);
struct tls_tickets *tls_tickets_ref(struct tls_tickets *t);
void tls_tickets_unref(struct tls_tickets *t);

/* tls_tickets_crypt prepares the cipher and the MAC of a ticket: BoringSSL's callback, with its
 * results (1 fine, 2 fine but issue a new one, 0 not ours, -1 failed). */
int tls_tickets_crypt(const struct tls_tickets *t, uint8_t *key_name, uint8_t *iv,
                      EVP_CIPHER_CTX *cipher, HMAC_CTX *hmac, bool encrypt);
