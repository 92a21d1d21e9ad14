#pragma once
/// Whether a FolderLock is held, asked without taking it.

#include "base/file.h"

namespace base {

/// True while a process, this one included, holds a FolderLock on `folder`. Reads /proc/locks, so
/// that nobody who wants the lock at this moment is disturbed; false where that tells nothing.
bool is_locked(const Path& folder);

}  // namespace base
