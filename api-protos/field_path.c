#include "api-protos/field_path.h"

#include "api-protos/official.h"

enum field_path field_path_look(struct str message, struct str path)
{
    const struct official_message *m = official_find(message);
    const struct official_field *f = NULL;
    struct str segment;
    while (str_next(&path, '.', &segment)) {
        if (f && (f->flags & (OFFICIAL_REPEATED | OFFICIAL_MAP)))
            return FIELD_PATH_UNKNOWN;
        if (f)
            m = official_target(f);
        f = m ? official_by_name(m, segment) : NULL;
        if (!f)
            return FIELD_PATH_UNKNOWN;
    }
    if (!f)
        return FIELD_PATH_UNKNOWN;
    return f->flags & (OFFICIAL_REPEATED | OFFICIAL_MAP) ? FIELD_PATH_REPEATED
                                                         : FIELD_PATH_SINGULAR;
}
