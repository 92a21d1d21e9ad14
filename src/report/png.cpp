// SVG to PNG by librsvg and cairo. They are opened when first needed instead of being linked: with
// what they depend on they are fifty libraries, and every start of the program would load them.

#include <dlfcn.h>
#include <librsvg/rsvg.h>

#include <cmath>
#include <memory>

#include "base/error.h"
#include "report/report.h"

// LeakSanitizer asks for these, where the program is built with it: fontconfig and pango keep fonts
// for the next picture, some of them where it does not find them.
// NOLINTBEGIN(readability-identifier-naming)
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libfontconfig\n"; }
extern "C" const char* __lsan_default_options();
extern "C" const char* __lsan_default_options() { return "print_suppressions=0"; }
// NOLINTEND(readability-identifier-naming)

namespace report {
namespace {

/// The functions of a library, by name; `ok` is false once one was not found.
class Library {
 public:
  explicit Library(const char* name) : handle_(::dlopen(name, RTLD_NOW | RTLD_LOCAL)) {}
  template <class F>
  void find(F*& function, const char* name) {
    if (handle_ != nullptr) function = reinterpret_cast<F*>(::dlsym(handle_, name));
    ok_ = ok_ && function != nullptr;
  }
  bool ok() const { return ok_; }

 private:
  void* handle_;  // stays open: glib's types cannot be registered twice
  bool ok_ = true;
};

struct Functions {
  decltype(::rsvg_handle_new_from_data)* new_from_data = nullptr;
  decltype(::rsvg_handle_get_intrinsic_size_in_pixels)* size_in_pixels = nullptr;
  decltype(::rsvg_handle_render_document)* render = nullptr;
  decltype(::g_object_unref)* unref = nullptr;
  decltype(::g_error_free)* free_error = nullptr;
  decltype(::cairo_image_surface_create)* new_surface = nullptr;
  decltype(::cairo_create)* new_context = nullptr;
  decltype(::cairo_surface_write_to_png_stream)* write = nullptr;
  decltype(::cairo_destroy)* free_context = nullptr;
  decltype(::cairo_surface_destroy)* free_surface = nullptr;
  bool ok = false;

  Functions() {
    Library rsvg("librsvg-2.so.2");
    Library cairo("libcairo.so.2");
    rsvg.find(new_from_data, "rsvg_handle_new_from_data");
    rsvg.find(size_in_pixels, "rsvg_handle_get_intrinsic_size_in_pixels");
    rsvg.find(render, "rsvg_handle_render_document");
    rsvg.find(unref, "g_object_unref");  // of the libraries it is linked with
    rsvg.find(free_error, "g_error_free");
    cairo.find(new_surface, "cairo_image_surface_create");
    cairo.find(new_context, "cairo_create");
    cairo.find(write, "cairo_surface_write_to_png_stream");
    cairo.find(free_context, "cairo_destroy");
    cairo.find(free_surface, "cairo_surface_destroy");
    ok = rsvg.ok() && cairo.ok();
  }
};

[[noreturn]] void fail_drawing(const Functions& f, const base::Path& path, GError* error) {
  const std::string reason = error != nullptr ? error->message : "no reason given";
  if (error != nullptr) f.free_error(error);
  base::fail("{}: librsvg cannot draw the picture: {}", path.string(), reason);
}

cairo_status_t append(void* png, const unsigned char* bytes, unsigned int size) {
  static_cast<std::string*>(png)->append(reinterpret_cast<const char*>(bytes), size);
  return CAIRO_STATUS_SUCCESS;
}

}  // namespace

bool write_png(const base::Path& path, const std::string& svg, double scale) {
  static const Functions f;
  if (!f.ok) return false;
  GError* error = nullptr;
  const std::unique_ptr<RsvgHandle, decltype(f.unref)> document(
      f.new_from_data(reinterpret_cast<const guint8*>(svg.data()), svg.size(), &error), f.unref);
  if (!document) fail_drawing(f, path, error);
  double width = 0;
  double height = 0;
  if (f.size_in_pixels(document.get(), &width, &height) == 0) {
    base::fail("{}: the picture has no size in pixels", path.string());
  }
  const RsvgRectangle all{0, 0, std::ceil(width * scale), std::ceil(height * scale)};
  const std::unique_ptr<cairo_surface_t, decltype(f.free_surface)> surface(
      f.new_surface(CAIRO_FORMAT_ARGB32, static_cast<int>(all.width), static_cast<int>(all.height)),
      f.free_surface);
  const std::unique_ptr<cairo_t, decltype(f.free_context)> context(f.new_context(surface.get()),
                                                                   f.free_context);
  if (f.render(document.get(), context.get(), &all, &error) == 0) fail_drawing(f, path, error);
  std::string png;
  if (f.write(surface.get(), append, &png) != CAIRO_STATUS_SUCCESS) {
    base::fail("{}: cairo cannot write the picture", path.string());
  }
  base::write_file(path, png);
  return true;
}

}  // namespace report
