/* SPDX-License-Identifier: MIT */
/*
 * Text, numbers, scales (page.h).
 */
#include "page.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

void page_text(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        switch (*text) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\'':
            fputs("&#39;", out);
            break;
        default:
            /* control characters are not allowed in HTML */
            fputc((unsigned char)*text < ' ' || *text == 127 ? ' ' : *text, out);
        }
}

const char *page_count(char buffer[PAGE_NUMBER], int64_t value)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%" PRIu64, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    char *to = buffer;
    if (value < 0) to += sprintf(to, "\u2212");
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return buffer;
}

const char *page_change(char buffer[PAGE_NUMBER], int64_t value)
{
    if (value < 0) return page_count(buffer, value);
    char digits[PAGE_NUMBER];
    strcpy(buffer, value == 0 ? "\u00b1" : "+");
    return strcat(buffer, page_count(digits, value));
}

const char *page_real(char buffer[PAGE_NUMBER], double value, int digits)
{
    char plain[PAGE_NUMBER];
    if (isnan(value)) return strcpy(buffer, "\u2013");
    snprintf(plain, sizeof plain, "%.*g", digits, value == 0 ? 0 : value);
    char *to = buffer;
    for (const char *from = plain; *from != '\0' && to < buffer + PAGE_NUMBER - 4; from++) {
        if (*from == '-')
            to += sprintf(to, "\u2212");
        else if (!(*from == '0' && from > plain + 1 && (from[-1] == '-' || from[-1] == '+') &&
                   strchr(plain, 'e')))
            *to++ = *from;
    }
    *to = '\0';
    return buffer;
}

double page_map(page_scale scale, double value)
{
    double width = scale.to - scale.from;
    double share = width == 0 ? 0.5 : (value - scale.from) / width;
    return scale.low + share * (scale.high - scale.low);
}

int page_ticks(double from, double to, int wanted, double ticks[PAGE_TICKS])
{
    double rough = (to - from) / wanted;
    if (!(rough > 0) || !isfinite(rough)) {
        ticks[0] = from;
        return isfinite(from);
    }
    double decade = pow(10, floor(log10(rough)));
    double step = rough / decade <= 1   ? decade
                  : rough / decade <= 2 ? 2 * decade
                  : rough / decade <= 5 ? 5 * decade
                                        : 10 * decade;
    int n = 0;
    for (double i = ceil(from / step); i * step <= to && n < PAGE_TICKS; i++)
        ticks[n++] = i * step;
    return n;
}

void page_svg(FILE *out, double width, double height, double least_width, const char *title)
{
    fprintf(out,
            "<div class=\"draw\"><svg viewBox=\"0 0 %.0f %.0f\" style=\"width:%.0fpx;min-width:%.0fpx\" "
            "role=\"img\"><title>",
            width, height, width, least_width);
    page_text(out, title);
    fputs("</title>\n", out);
}
