/* Shadow: a copy of a request, sent to another cluster for its sake alone: the answer is read and
 * dropped, a failure is counted and disturbs nobody. It outlives the request it is a copy of.
 * Belongs to its worker. */
#pragma once

struct worker;

/* shadows_end gives up those under way, when the worker ends. */
void shadows_end(struct worker *w);
