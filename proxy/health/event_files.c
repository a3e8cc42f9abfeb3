#include "proxy/health/event_files.h"

#include "proxy/observe/access_log.h"

static void *open_file(void *arg, struct str path)
{
    return log_files_open(arg, path);
}

static void write_line(void *file, struct str line)
{
    log_file_write(file, line);
}

static void close_file(void *file)
{
    log_file_unref(file);
}

struct event_sink event_files_sink(struct log_files *files)
{
    return (struct event_sink){open_file, write_line, close_file, files};
}
