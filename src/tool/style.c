/* SPDX-License-Identifier: MIT */
/*
 * The page's style sheet. Colours are variables with a light and a dark set. Ranks use one hue from pale to deep (its
 * direction turns in the dark), changes an orange-blue pair: both are told apart by colour-blind readers, and numbers
 * stand in the cells besides.
 */
#include "page.h"

static const char colours[] =
    ":root{color-scheme:light "
    "dark;--bg:#f6f7f8;--panel:#fff;--ink:#1b2126;--soft:#5a6670;--line:#dfe3e7;--grid:#e9ecef;"
    "--keep:#2f79b5;--drop:#d1661a;--est:#9cc3e2;--est-drop:#f0bd8f;--mark:#8a939b;--band:#d1661a22;--empty:#"
    "fff;"
    "--s0:#eef3f8;--s1:#dbe8f3;--s2:#bfd7ea;--s3:#9bc3df;--s4:#71a9d1;--s5:#4a8dbf;--s6:#2c72aa;--s7:#185a91;"
    "--s8:#0b4070;--on-low:#1b2126;--on-high:#fff;"
    "--n4:#b1480c;--n3:#d6732c;--n2:#efa868;--n1:#f9dcc0;--z:#f0f1f2;--p1:#d2e3f1;--p2:#92bfe0;--p3:#4a90c4;"
    "--p4:#17578f;--on-n:#fff;--on-p:#fff;"
    "--c0:#2f79b5;--c1:#d1661a;--c2:#3d8f6e;--c3:#8a5ba8;--c4:#a3821a;--c5:#c24d6b}\n"
    "@media "
    "(prefers-color-scheme:dark){:root{--bg:#13171a;--panel:#1b2025;--ink:#e4e8eb;--soft:#9aa6b0;--line:#"
    "2e353b;"
    "--grid:#262c32;--keep:#6bb0ea;--drop:#f2994f;--est:#3a6389;--est-drop:#8f5a2e;--mark:#75808a;--band:#"
    "f2994f26;"
    "--empty:#171b1f;"
    "--s0:#222b33;--s1:#233a50;--s2:#254b6c;--s3:#285d88;--s4:#2f71a5;--s5:#4389c1;--s6:#64a4da;--s7:#8fc0ea;"
    "--s8:#c0def7;--on-low:#e4e8eb;--on-high:#10161b;"
    "--n4:#f7a566;--n3:#d17b3a;--n2:#96562a;--n1:#553723;--z:#272d33;--p1:#24405a;--p2:#2a6293;--p3:#4a92cc;"
    "--p4:#8dc6f3;--on-n:#10161b;--on-p:#10161b;"
    "--c0:#6bb0ea;--c1:#f2994f;--c2:#6cc3a0;--c3:#c39be0;--c4:#d9bb55;--c5:#f08ba4}}\n";

static const char layout[] =
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"DejaVu Sans\",sans-serif}"
    "main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}"
    "h1{font-size:26px;line-height:1.2;margin:0 0 4px}h2{font-size:19px;margin:40px 0 2px}"
    "h3{font-size:14px;margin:0 0 6px;font-weight:600}h3 small{font-weight:400;color:var(--soft)}"
    "p{margin:4px 0 12px;max-width:78ch}.soft,p.note,figcaption{color:var(--soft)}"
    ".panel,figure{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:14px "
    "16px;margin:0;"
    "min-width:0}"
    "dl{margin:0;font-size:13px;flex:1 1 210px;max-width:400px;display:grid;gap:3px "
    "12px;grid-template-columns:1fr "
    "auto;align-content:start}dt{color:var(--soft)}"
    "dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}"
    "figure.small{padding:10px}.small h3{font-size:13px;line-height:1.35}.small "
    "small{display:block;font-size:12px}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:18px 0 0}"
    ".tile{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:10px 14px}"
    ".tile b{display:block;font-size:21px;line-height:1.25;font-weight:600;font-variant-numeric:tabular-nums}"
    ".tile span{color:var(--soft);font-size:13px}.tile "
    "i{font-style:normal;color:var(--soft);font-size:13px;display:block}"
    ".grid{display:grid;gap:14px;margin:12px 0}"
    ".wide{grid-template-columns:repeat(auto-fit,minmax(min(100%,780px),1fr))}.three{grid-template-columns:"
    "repeat(auto-fit,minmax(min(100%,300px),1fr))}"
    ".pair{display:flex;flex-wrap:wrap;gap:6px 26px;align-items:flex-start}"
    ".draw{overflow-x:auto}svg{display:block;max-width:100%;height:auto}"
    "svg text{font:11px system-ui,-apple-system,\"Segoe UI\",Roboto,\"DejaVu "
    "Sans\",sans-serif;fill:var(--soft);"
    "font-variant-numeric:tabular-nums}svg .lab{fill:var(--ink)}svg .big{font-size:12px}"
    ".ax{stroke:var(--mark);stroke-width:1}.gr{stroke:var(--grid);stroke-width:1}"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--soft);font-size:13px;margin:6px 0 0}"
    ".legend span{display:inline-flex;align-items:center;gap:6px}"
    ".legend i{width:13px;height:13px;border-radius:3px;display:inline-block}"
    ".legend i.dot{border-radius:50%;width:10px;height:10px}.legend i.line{height:3px;width:18px}"
    ".scale{display:inline-flex;align-items:center;gap:6px}.scale "
    "b{display:inline-flex;border-radius:3px;overflow:hidden}"
    ".scale b i{width:17px;height:13px;border-radius:0}";

static const char cells[] =
    ".s0 rect{fill:var(--s0)}.s1 rect{fill:var(--s1)}.s2 rect{fill:var(--s2)}.s3 rect{fill:var(--s3)}"
    ".s4 rect{fill:var(--s4)}.s5 rect{fill:var(--s5)}.s6 rect{fill:var(--s6)}.s7 rect{fill:var(--s7)}"
    ".s8 rect{fill:var(--s8)}.e rect{fill:var(--empty);stroke:var(--line);stroke-dasharray:2 2}"
    ".n4 rect{fill:var(--n4)}.n3 rect{fill:var(--n3)}.n2 rect{fill:var(--n2)}.n1 rect{fill:var(--n1)}.z "
    "rect{fill:var(--z)}"
    ".p1 rect{fill:var(--p1)}.p2 rect{fill:var(--p2)}.p3 rect{fill:var(--p3)}.p4 rect{fill:var(--p4)}"
    "svg .s0 text,svg .s1 text,svg .s2 text,svg .s3 text,svg .n1 text,svg .n2 text,svg .p1 text,svg .p2 text"
    "{fill:var(--on-low)}"
    "svg .s4 text{fill:var(--on-low)}svg .s5 text,svg .s6 text,svg .s7 text,svg .s8 text{fill:var(--on-high)}"
    "svg .n3 text,svg .n4 text{fill:var(--on-n)}svg .p3 text,svg .p4 text{fill:var(--on-p)}"
    "svg .z text,svg .e text{fill:var(--soft)}svg text.sum{fill:var(--soft);font-size:10.5px}"
    ".keep{fill:var(--keep)}.drop{fill:var(--drop)}.est{fill:var(--est)}.est-drop{fill:var(--est-drop)}"
    ".cut{stroke:var(--drop);stroke-width:1.5;stroke-dasharray:5 3}.band{fill:var(--band)}"
    ".w-keep{stroke:var(--keep)}.w-drop{stroke:var(--drop)}.w-keep,.w-drop{stroke-width:1.2;opacity:.55}"
    ".open{fill:var(--panel);stroke-width:1.6}.open.keep{fill:var(--panel);stroke:var(--keep)}"
    ".open.drop{fill:var(--panel);stroke:var(--drop)}"
    ".round{stroke:var(--mark);stroke-width:1;stroke-dasharray:2 3}"
    ".c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)"
    "}"
    ".c5{stroke:var(--c5)}.curve{fill:none;stroke-width:2;stroke-linejoin:round}.thin{stroke-width:1;opacity:"
    ".35}"
    ".f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--c4)}.f5{fill:"
    "var(--c5)}";

static const char tables[] =
    ".scroll{overflow:auto;max-height:560px}table{border-collapse:collapse;width:100%;font-size:13px;"
    "font-variant-numeric:tabular-nums}th,td{padding:4px 9px;text-align:right;white-space:nowrap;"
    "border-bottom:1px solid var(--grid)}th{position:sticky;top:0;background:var(--panel);color:var(--soft);"
    "font-weight:600;z-index:1}td.l,th.l{text-align:left}tbody tr:hover{background:var(--bg)}"
    ".dense th,.dense td{padding:4px 7px}tr.under td{white-space:normal;color:var(--soft);padding-top:0}"
    ".fate-d{color:var(--drop)}.fate-l{color:var(--keep)}details{margin:12px "
    "0}summary{cursor:pointer;color:var(--soft)}"
    ".life{width:150px;height:12px;display:inline-block;vertical-align:middle}"
    "footer{margin-top:44px;color:var(--soft);font-size:13px}"
    "@media (max-width:560px){main{padding:18px 12px 40px}h1{font-size:22px}.panel,figure{padding:10px}"
    "th,td{padding:4px 7px}}"
    "@media print{body{background:#fff;font-size:11px}main{max-width:none;padding:0}"
    "figure,.tile,tr{break-inside:avoid}h2,h3,p.note,.legend{break-after:avoid}"
    ".scroll{max-height:none;overflow:visible}th{position:static}"
    "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n";

void page_style(FILE *out)
{
    fprintf(out, "<style>\n%s%s%s%s</style>\n", colours, layout, cells, tables);
}
