#include "tls/tls_tickets.h"

#include "tls/data_source.h"
#include <openssl/cipher.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <openssl/digest.h>

struct tls_tickets *tls_tickets_new(const TLS_V3(TlsSessionTicketKeys) * from, struct errors *e)
{
    struct arena a;
    struct dedup_hash h;
    size_t before = e->num_errors;
    if (from->n_keys == 0) {
        errors_add(e, "keys", "at least one key is required");
        return NULL;
    }
    struct tls_tickets *t = mem_zalloc(sizeof(*t) + from->n_keys * sizeof(t->keys[0]));
    refcount_init(&t->refs);
    arena_init(&a, 1024);
    dedup_hash_init(&h);
    for (size_t i = 0; i < from->n_keys; i++) {
        struct data_source ds;
        size_t mark = errors_push_index(e, "keys", i);
        if (data_source_read(from->keys[i], &a, e, NULL, &ds)) {
            if (ds.bytes.len == sizeof(t->keys[0]))
                memcpy(&t->keys[t->num++], ds.bytes.p, sizeof(t->keys[0]));
            else
                errors_add(e, NULL, "is %zu bytes long, must be %zu", ds.bytes.len,
                           sizeof(t->keys[0]));
            dedup_hash_str(&h, ds.bytes);
            OPENSSL_cleanse((void *)ds.bytes.p, ds.bytes.len);
        }
        errors_pop(e, mark);
    }
    dedup_hash_final(&h, &t->key);
    arena_cleanup(&a);
    if (e->num_errors == before)
        return t;
    tls_tickets_unref(t);
    return NULL;
}

struct tls_tickets *tls_tickets_ref(struct tls_tickets *t)
{
    if (t)
        refcount_inc(&t->refs);
    return t;
}

void tls_tickets_unref(struct tls_tickets *t)
{
    if (!t || !refcount_dec(&t->refs))
        return;
    OPENSSL_cleanse(t->keys, t->num * sizeof(t->keys[0]));
    mem_free(t);
}

static int encrypt_with(const struct tls_ticket_key *k, uint8_t *key_name, uint8_t *iv,
                        EVP_CIPHER_CTX *cipher, HMAC_CTX *hmac)
{
    memcpy(key_name, k->name, sizeof(k->name));
    if (!RAND_bytes(iv, EVP_CIPHER_iv_length(EVP_aes_256_cbc())) ||
        !EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->aes, iv) ||
        !HMAC_Init_ex(hmac, k->hmac, sizeof(k->hmac), EVP_sha256(), NULL))
        return -1;
    return 1;
}

int tls_tickets_crypt(const struct tls_tickets *t, uint8_t *key_name, uint8_t *iv,
                      EVP_CIPHER_CTX *cipher, HMAC_CTX *hmac, bool encrypt)
{
    if (encrypt)
        return encrypt_with(&t->keys[0], key_name, iv, cipher, hmac);
    for (size_t i = 0; i < t->num; i++) {
        const struct tls_ticket_key *k = &t->keys[i];
        if (memcmp(k->name, key_name, sizeof(k->name)) != 0)
            continue;
        if (!HMAC_Init_ex(hmac, k->hmac, sizeof(k->hmac), EVP_sha256(), NULL) ||
            !EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->aes, iv))
            return -1;
        return i == 0 ? 1 : 2;
    }
    return 0;
}
