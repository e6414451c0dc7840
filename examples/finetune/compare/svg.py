# SPDX-License-Identifier: MIT
"""Plots as plain SVG."""
from html import escape

WIDTH, LEFT, RIGHT, TOP, LINE = 760, 190, 30, 46, 20


class Plot:
    def __init__(self, title):
        self.parts, self.height = [], 0
        self.text(12, 20, title, size=14)

    def text(self, x, y, text, anchor="start", size=11):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>')

    def line(self, x1, y1, x2, y2, colour="#888"):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>')

    def dot(self, x, y):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#1f5fa8"/>')

    def dots(self, rows):
        """Rows of (label, value, error) beneath each other, with a line at 0."""
        if not rows:
            return self
        low = min([v - e for _, v, e in rows] + [0])
        high = max([v + e for _, v, e in rows] + [0])
        at = lambda v: LEFT + (v - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)
        bottom = TOP + LINE * len(rows)
        self.line(at(0), TOP - 8, at(0), bottom)
        for i, (label, value, error) in enumerate(rows):
            y = TOP + LINE * i + 6
            self.text(LEFT - 12, y + 4, label, "end")
            self.line(at(value - error), y, at(value + error), y, "#1f5fa8")
            self.dot(at(value), y)
        for value in (low, 0, high):
            self.text(at(value), bottom + 16, f"{value:+.4f}", "middle")
        self.height = bottom + 30
        return self

    def scatter(self, points, x_name, y_name):
        """(label, x, y)"""
        if not points:
            return self
        xs, ys = [p[1] for p in points], [p[2] for p in points]
        span = lambda values: (max(values) - min(values)) or 1
        size = 420
        px = lambda x: 70 + (x - min(xs)) / span(xs) * (WIDTH - 250)
        py = lambda y: TOP + size - (y - min(ys)) / span(ys) * size
        self.line(60, TOP + size + 10, WIDTH - 20, TOP + size + 10)
        self.line(60, TOP - 5, 60, TOP + size + 10)
        for label, x, y in points:
            self.dot(px(x), py(y))
            self.text(px(x) + 7, py(y) + 4, label)
        for x in (min(xs), max(xs)):
            self.text(px(x), TOP + size + 26, f"{x:.0f}", "middle")
        for y in (min(ys), max(ys)):
            self.text(56, py(y) + 4, f"{y:.4f}", "end")
        self.text(WIDTH - 20, TOP + size + 26, x_name, "end")
        self.text(12, TOP - 12, y_name)
        self.height = TOP + size + 40
        return self

    def save(self, path):
        with open(path, "w") as file:
            file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{max(self.height, 60)}" '
                       f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n' + "\n".join(self.parts) + "\n</svg>\n")
