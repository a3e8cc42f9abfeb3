#include "proxy/options.h"
#include "proxy/server.h"

int main(int argc, char **argv)
{
    struct options o;
    switch (options_parse(&o, argc, argv)) {
    case OPTIONS_EXIT_OK:
        return 0;
    case OPTIONS_EXIT_ERROR:
        return 1;
    case OPTIONS_RUN:
        break;
    }
    return o.mode == MODE_VALIDATE ? server_validate(&o) : server_run(&o);
}
