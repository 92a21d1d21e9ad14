#pragma once
/// Where a long text can be cut without changing its ids. Private to the room.

#include <cstddef>
#include <string_view>

namespace prepare {

/// The largest cut in [1, text.size() - 1] such that, whatever stands before and after `text`,
/// encoding what lies before the cut and what lies after it gives the ids of the whole; 0 if none.
///
/// A cut is such a place when the pre-tokenizer's pattern always ends a piece there, and ends the
/// same piece when the text ends there:
///   - before ASCII white space, after anything but white space: no piece goes on from one into the
///     other. (After white space the look-ahead of \s+(?!\S) would see the end of the text.)
///   - after an ASCII letter or digit, before an ASCII character of another class: a run ends
///   there.
///     Not after other characters: an apostrophe may begin 's, 't, 're, 've, 'm, 'll or 'd.
std::size_t last_cut(std::string_view text);

}  // namespace prepare
