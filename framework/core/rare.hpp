#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// A place in production code where something allowed and unlikely may happen, and where a simulation makes it happen on a seed (in the
/// manner of FoundationDB's BUGGIFY). Inert unless rare_chances is alive: then a site is armed for the whole run with a chance of its
/// own, and an armed one fires now and then.
///
///   rare_site closes_early("a home closes its round at the quorum");   // at namespace scope: every site is known, hit or not
///   if (missing > 0 && now < last && !closes_early()) ...
class rare_site {
public:
  /// name: unique, plain words. fires: the chance of each pass once it is armed.
  explicit rare_site(const char* name, double fires = 0.25);
  rare_site(const rare_site&) = delete;
  rare_site& operator=(const rare_site&) = delete;
  bool operator()();
  const char* name() const { return name_; }
  double fires() const { return fires_; }
  /// All of the program, by name.
  static const std::vector<const rare_site*>& all();

private:
  const char* name_;
  double fires_;
};

/// While it lives, rare sites fire on its seed. One at a time, and only where everything runs in one thread.
class rare_chances {
public:
  static constexpr double armed = 0.25;  // the chance of a site, for the whole run
  explicit rare_chances(std::uint64_t seed);
  ~rare_chances();
  rare_chances(const rare_chances&) = delete;
  rare_chances& operator=(const rare_chances&) = delete;
  /// Nothing fires from now on.
  void rest() { resting_ = true; }
  /// How often each site fired.
  const std::map<std::string, std::uint64_t>& fired() const { return fired_; }

private:
  friend class rare_site;
  bool draw(const rare_site& site);

  std::uint64_t seed_;
  bool resting_ = false;
  std::map<const rare_site*, std::uint64_t> passes_;
  std::map<std::string, std::uint64_t> fired_;
};

}  // namespace isthmus
