// The page: its numbers as JSON in a script element that is no script, and around them the styles
// and the script of page.css, page_tools.js and page.js, which the assembler copies into the
// program.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "report/escape.h"
#include "report/report.h"

// GPT2_PAGE_CSS, GPT2_PAGE_TOOLS, GPT2_PAGE_JS: the paths, from CMake.
asm(".pushsection .rodata\n"
    ".global gpt2_page_css\n.hidden gpt2_page_css\n"
    "gpt2_page_css:\n.incbin \"" GPT2_PAGE_CSS
    "\"\n.byte 0\n"
    ".global gpt2_page_js\n.hidden gpt2_page_js\n"
    "gpt2_page_js:\n.incbin \"" GPT2_PAGE_TOOLS "\"\n.incbin \"" GPT2_PAGE_JS
    "\"\n.byte 0\n"
    ".popsection\n");

// The assembler's names, not C++'s. NOLINTBEGIN(readability-identifier-naming)
extern "C" {
extern const char gpt2_page_css[] __attribute__((visibility("hidden")));
extern const char gpt2_page_js[] __attribute__((visibility("hidden")));
}
// NOLINTEND(readability-identifier-naming)

namespace report {
namespace {

using Json = nlohmann::ordered_json;

// Six digits are more than a screen shows, and a third of the bytes.
void append_numbers(std::string& out, std::string_view key, const std::vector<Point>& points,
                    double Point::*member, int digits) {
  out += fmt::format("\"{}\":[", key);
  for (std::size_t i = 0; i < points.size(); ++i) {
    out += fmt::format("{}{:.{}g}", i == 0 ? "" : ",", points[i].*member, digits);
  }
  out += ']';
}

std::string points_json(const Curve& curve) {
  constexpr int kStepDigits = 15, kValueDigits = 6;
  const std::vector<Point> points = curve.points();
  std::string out;
  append_numbers(out, "x", points, &Point::x, kStepDigits);
  out += ',';
  append_numbers(out, "y", points, &Point::y, kValueDigits);
  return out;
}

std::string text_json(const std::string& text) { return Json(as_utf8(text)).dump(); }

template <class Items, class One>
void append_list(std::string& out, std::string_view key, const Items& items, One&& one) {
  out += fmt::format(",\"{}\":[", key);
  bool first = true;
  for (const auto& item : items) {
    if (!first) out += ',';
    first = false;
    out += one(item);
  }
  out += ']';
}

std::string run_json(const PageRun& run) {
  std::string out =
      fmt::format("{{\"name\":{},\"state\":{}", text_json(run.name), text_json(run.state));
  append_list(out, "curves", run.curves, [](const PageCurve& c) {
    return fmt::format("{{\"chart\":{},\"name\":{},\"markers\":{},{}}}", text_json(c.chart),
                       text_json(c.name), c.markers, points_json(c.curve));
  });
  append_list(out, "axes", run.axes, [](const auto& axis) {
    return fmt::format("{{\"name\":{},{}}}", text_json(axis.first), points_json(axis.second));
  });
  append_list(out, "marks", run.marks, [](const PageMark& m) {
    return fmt::format("[{},{},{}]", m.step, text_json(m.kind), text_json(m.text));
  });
  append_list(out, "samples", run.samples, [](const PageSample& s) {
    return fmt::format("[{},{}]", s.step, text_json(s.text));
  });
  const auto fact = [](const Fact& f) {
    return fmt::format("[{},{}]", text_json(f.first), text_json(f.second));
  };
  append_list(out, "configuration", run.configuration, fact);
  append_list(out, "environment", run.environment, fact);
  return out + "}";
}

}  // namespace

std::string html(const std::string& title, std::span<const PageRun> runs, bool live) {
  std::string data = fmt::format("{{\"title\":{},\"live\":{}", text_json(title), live);
  append_list(data, "runs", runs, run_json);
  data += "}";
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      // Nothing is ever asked of a network, whatever the numbers say.
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n<title>";
  out += xml_escaped(title) + "</title>\n<style>\n";
  out += gpt2_page_css;
  out += "</style>\n</head>\n<body>\n<noscript>This page draws with JavaScript.</noscript>\n";
  out += "<script type=\"application/json\" id=\"data\">" + script_escaped(data) + "</script>\n";
  out += "<script>\n'use strict';\n{\n";  // a block: what is declared in it is not global
  out += gpt2_page_js;
  return out + "}\n</script>\n</body>\n</html>\n";
}

}  // namespace report
