#include "proxy/admin/admin_handler.h"
void admin_config_dump(const struct admin_request *rq, struct admin_response *rs)
{
    admin_error(rs, 501, "not yet");
}
