/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "number.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#define NS_PER_MS  UINT64_C(1000000)
#define NS_PER_S   UINT64_C(1000000000)
#define NS_PER_MIN (60 * NS_PER_S)
#define NS_PER_H   (60 * NS_PER_MIN)

/* Not isdigit(): it depends on the locale and is undefined for negative char values. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/*
 * The digits *text begins with; *text is moved behind them. All digits are taken even when the value does
 * not fit, so that what follows decides between "not a number" and "too large".
 */
static int take_digits(const char **text, uint64_t *ret)
{
    const char *at = *text;
    bool overflow = false;
    uint64_t value = 0;

    if (!is_digit(*at))
        return -EINVAL;
    for (; is_digit(*at); at++)
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            overflow = true;
    *text = at;
    *ret = value;
    return overflow ? -ERANGE : 0;
}

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    uint64_t value;
    int error = take_digits(&text, &value);

    if (error == -EINVAL || *text != '\0')
        return -EINVAL;
    if (error || value < min || value > max)
        return -ERANGE;
    *ret = value;
    return 0;
}

/* How far a size suffix shifts; -EINVAL for something that is no suffix. */
static int size_shift(const char *suffix)
{
    static const char letters[] = "KMGTPE";

    for (int i = 0; letters[i]; i++) {
        if (strncasecmp(suffix, &letters[i], 1) != 0)
            continue;
        suffix++;
        if (*suffix == '\0' || strcasecmp(suffix, "B") == 0 || strcasecmp(suffix, "iB") == 0)
            return (i + 1) * 10;
        return -EINVAL;
    }
    return *suffix == '\0' || strcasecmp(suffix, "B") == 0 ? 0 : -EINVAL;
}

int parse_size(const char *text, uint64_t *ret)
{
    uint64_t value;
    int error = take_digits(&text, &value);
    int shift;

    if (error == -EINVAL)
        return error;
    shift = size_shift(text);
    if (shift < 0)
        return shift;
    if (error || value > UINT64_MAX >> shift)
        return -ERANGE;
    *ret = value << shift;
    return 0;
}

/* Nanoseconds in the unit; 0 for something that is no unit. "m" is not taken: it could mean anything. */
static uint64_t time_unit(const char *unit)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"", NS_PER_S}, {"ms", NS_PER_MS}, {"s", NS_PER_S}, {"min", NS_PER_MIN}, {"h", NS_PER_H}};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(unit, units[i].name) == 0)
            return units[i].ns;
    return 0;
}

/* The value of the digits behind a decimal point; what is finer than a nanosecond is dropped. */
static uint64_t fraction_ns(const char *digits, uint64_t unit)
{
    uint64_t ns = 0;

    for (uint64_t place = unit / 10; is_digit(*digits) && place > 0; place /= 10, digits++)
        ns += (uint64_t)(*digits - '0') * place;
    return ns;
}

int parse_time(const char *text, uint64_t *ret_ns)
{
    const char *fraction = "";
    uint64_t value, unit, ns;
    int error = take_digits(&text, &value);

    if (error == -EINVAL)
        return error;
    if (*text == '.') {
        fraction = ++text;
        if (!is_digit(*text))
            return -EINVAL;
        text += strspn(text, "0123456789");
    }
    unit = time_unit(text);
    if (unit == 0)
        return -EINVAL;
    if (error || __builtin_mul_overflow(value, unit, &ns) ||
        __builtin_add_overflow(ns, fraction_ns(fraction, unit), &ns))
        return -ERANGE;
    *ret_ns = ns;
    return 0;
}
