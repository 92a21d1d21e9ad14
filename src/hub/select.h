#pragma once
/// Which of a repository's files are wanted.

#include <string>
#include <vector>

#include "hub/hub.h"

namespace hub {

/// The files to fetch, sorted, out of all `names`. Throws Error when what is needed is absent;
/// `subject` names the repository in it.
std::vector<std::string> select(const Spec& spec, const std::vector<std::string>& names,
                                const std::string& subject);

}  // namespace hub
