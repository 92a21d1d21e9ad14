// A curve in bounded room.

#include <algorithm>
#include <cmath>

#include "report/report.h"

namespace report {

void Curve::add(double x, double y) {
  if (!std::isfinite(x) || !std::isfinite(y)) return;
  const Point point{x, y};
  if (count_ == 0) first_ = point;
  last_ = point;
  if (count_ % width_ == 0) {
    buckets_.push_back({point, point});
  } else {
    Bucket& bucket = buckets_.back();
    if (y < bucket.low.y) bucket.low = point;
    if (y > bucket.high.y) bucket.high = point;
  }
  ++count_;
  // A bucket of width 1 is one point, a wider one two.
  if (buckets_.size() * (width_ == 1 ? 1 : 2) < most_ || count_ % (2 * width_) != 0) return;
  for (std::size_t i = 0; 2 * i + 1 < buckets_.size(); ++i) {
    const Bucket& a = buckets_[2 * i];
    const Bucket& b = buckets_[2 * i + 1];
    buckets_[i] = {b.low.y < a.low.y ? b.low : a.low, b.high.y > a.high.y ? b.high : a.high};
  }
  buckets_.resize(buckets_.size() / 2);
  width_ *= 2;
}

std::vector<Point> Curve::points() const {
  std::vector<Point> points;
  if (count_ == 0) return points;
  points.push_back(first_);
  for (const Bucket& bucket : buckets_) {
    const bool low_first = bucket.low.x <= bucket.high.x;
    points.push_back(low_first ? bucket.low : bucket.high);
    points.push_back(low_first ? bucket.high : bucket.low);
  }
  points.push_back(last_);
  points.erase(std::unique(points.begin(), points.end()), points.end());
  return points;
}

}  // namespace report
