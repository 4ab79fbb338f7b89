"""The printed report: titles, tables, lines."""

import shlex


class Out:
    def line(self, text=""):
        print(text, flush=True)

    def title(self, text):
        self.line()
        self.line(f"== {text}")

    def table(self, rows):
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            # The first column reads from the left, numbers from the right, the last as it is.
            cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:-1], widths[1:-1])] + [row[-1]]
            self.line("  ".join(cells).rstrip())

    def command(self, name, cmd):
        self.line(f"{name}: {shlex.join(cmd)}")

    @staticmethod
    def ms(ns):
        return f"{ns / 1e6:.1f}"
