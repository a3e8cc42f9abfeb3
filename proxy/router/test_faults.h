/* Test faults: in test builds (ATTACHE_TEST_HOOKS) a request may ask for one thing to go wrong at
 * one of the moments at which it waits for something:
 *
 *     x-attache-test-fault: POINT:KIND:N
 *
 * KIND happens when POINT is reached for the Nth time, in the loop's run queue: as if it had come
 * from outside. Counted as cluster.NAME.test_fault.POINT:KIND. In release builds there is nothing
 * of it. Worker. */
#pragma once

struct router;
struct shadow;
struct upstream_request;

/* X(id, "name") */
#define TEST_FAULT_POINTS(X)                                                                       \
    X(POOL_WAIT, "pool-wait")         /* a slot was asked for */                                   \
    X(HEAD_SENT, "head-sent")         /* the head went out, body follows */                        \
    X(BODY_SENT, "body-sent")         /* a part of the body went out */                            \
    X(AWAITED, "awaited")             /* all went out, the response is awaited */                  \
    X(BACKOFF, "backoff")             /* the pause before another try */                           \
    X(HEDGE, "hedge")                 /* a try is late, another one is to be begun beside it */    \
    X(MIRRORED, "mirrored")           /* copies are under way */                                   \
    X(RESPONSE_HEAD, "response-head") /* the head was passed on, body follows */                   \
    X(RESPONSE_BODY, "response-body") /* a part of the body, or all before the trailers */

enum test_fault_point {
#define X(id, name) FAULT_##id,
    TEST_FAULT_POINTS(X)
#undef X
        NUM_FAULT_POINTS
};

#ifdef ATTACHE_TEST_HOOKS
/* test_fault_init takes the header out of the request; test_fault_end forgets what is to come. */
void test_fault_init(struct router *r);
void test_fault_end(struct router *r);

/* test_fault says that a point was reached; u is the try that it is about, or NULL. */
void test_fault(struct router *r, struct upstream_request *u, enum test_fault_point point);
#else
static inline void test_fault_init(struct router *r)
{
}
static inline void test_fault_end(struct router *r)
{
}
static inline void test_fault(struct router *r, struct upstream_request *u,
                              enum test_fault_point point)
{
}
#endif
