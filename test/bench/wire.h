/* What the bench tools share: loopback sockets, the little HTTP/1.1 that is needed to find where a
 * message ends, and the check word that ties an answer to its request. The tools stand alone, on
 * purpose: they link nothing of the proxy, so that they cannot share a mistake with it.
 * Everything here is for one thread and blocks only where it says so. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_BUF_SIZE 65536 /* of one connection and direction */
#define WIRE_WORD_LEN 16    /* of the check word */
#define WIRE_BODY_MAX 32768 /* a head and a body fit one buffer */

/* wire_die prints the message and, if errno is set, its text, and exits with status 2. */
_Noreturn void wire_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* wire_number parses a whole decimal argument in [min, max]; anything else dies naming `what`. */
uint64_t wire_number(const char *what, const char *text, uint64_t min, uint64_t max);

/* wire_listen returns a non-blocking listening socket on 127.0.0.1:`port` (0: any); dies if it
 * cannot. */
int wire_listen(uint16_t port);

/* wire_port returns the local port of a bound socket. */
uint16_t wire_port(int fd);

/* wire_connect connects to 127.0.0.1:`port`, blocking, and returns a non-blocking socket with
 * TCP_NODELAY, or -1 with errno. */
int wire_connect(uint16_t port);

/* wire_accept returns the next connection, non-blocking with TCP_NODELAY, or -1. */
int wire_accept(int listen_fd);

/* wire_head_len returns the length of the head at `buf` with its blank line, or 0 if it has not all
 * arrived. */
size_t wire_head_len(const char *buf, size_t buf_len);

/* wire_content_length reads Content-Length from a whole head; false if there is none or it is not
 * a number below 2^32. The name is compared without case. */
bool wire_content_length(const char *head, size_t head_len, size_t *out_len);

/* wire_target finds the request target in a request's head; false if the line has none. The target
 * points into `head`. */
bool wire_target(const char *head, size_t head_len, const char **out_target, size_t *out_len);

/* wire_word writes the WIRE_WORD_LEN hexadecimal digits that stand for a request target (64-bit
 * FNV-1a). */
void wire_word(const char *target, size_t target_len, char *word);

/* wire_body fills `body` with `word` over and over, cut at `body_len`. */
void wire_body(const char *word, char *body, size_t body_len);

/* wire_body_ok is true if `body` is what wire_body would have written. */
bool wire_body_ok(const char *word, const char *body, size_t body_len);
