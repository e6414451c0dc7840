# SPDX-License-Identifier: MIT
"""Paired differences: mean, standard error, Student's t, and Holm's correction for the number of comparisons."""
import math


def beta_fraction(a, b, x):
    """The continued fraction of the incomplete beta function (Lentz), for x < (a + 1) / (a + b + 2)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 300):
        for numerator in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                          -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + numerator / c
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return value


def incomplete_beta(a, b, x):
    """Regularised, I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * beta_fraction(a, b, x) / a
    return 1 - front * beta_fraction(b, a, 1 - x) / b


def t_two_sided(t, degrees):
    """Probability of |T| >= |t|."""
    return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


def paired(values, others):
    """Mean difference, its standard error and p; the last two None with fewer than two pairs, p 1 if all differences are 0."""
    differences = [a - b for a, b in zip(values, others, strict=True)]
    n = len(differences)
    mean = sum(differences) / n
    if n < 2:
        return mean, None, None
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1) / n)
    if error == 0:
        return mean, 0.0, 1.0 if mean == 0 else 0.0
    return mean, error, t_two_sided(mean / error, n - 1)


def holm(probabilities):
    """Corrected for their number, in the order given."""
    order = sorted(range(len(probabilities)), key=lambda i: probabilities[i])
    corrected, most = [0.0] * len(probabilities), 0.0
    for place, i in enumerate(order):
        most = max(most, min(1.0, (len(order) - place) * probabilities[i]))
        corrected[i] = most
    return corrected
