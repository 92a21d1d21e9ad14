// Any bytes as manifest.json and as prepare.state.json: refused with one line, or read and the same
// after they are written and read again.

#include "base/error.h"
#include "data/data.h"
#include "prepare/state.h"
#include "temporary.h"

namespace {

/// The file as `write` makes it from what `read` found; nothing where it was refused.
template <class Read, class Write>
void check(const base::Path& file, std::string_view bytes, Read&& read, Write&& write) {
  try {
    base::write_file(file, bytes);
    write(read());
  } catch (const base::Error& error) {
    fuzz::check_message(error);
    return;
  }
  const std::string written = base::read_file(file);
  write(read());  // what we wrote ourselves must not be refused
  if (base::read_file(file) != written) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder("manifest");
  const base::Path& path = folder.path();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check(
      path / data::kManifestName, bytes, [&] { return data::read_manifest(path); },
      [&](const data::Manifest& manifest) { data::write_manifest(path, manifest); });
  check(
      path / prepare::kStateName, bytes, [&] { return prepare::read_state(path).value(); },
      [&](const prepare::State& state) { prepare::write_state(path, state); });
  return 0;
}
