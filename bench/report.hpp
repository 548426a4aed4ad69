#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace isthmus::bench {

/// The form that every program in bench/ prints: first one line on the machine, then one JSON object a line for each figure.
struct figure {
  std::string name, unit;
  double value = 0;
  std::string peer;                  // who was measured beside us; empty: nobody
  std::optional<double> peer_value;  // in the same unit, in the same run
  bool less_is_better = false;       // turns the ratio over: ratio > 1 always means that we are better
  std::string limit;                 // the physical limit that `share` is a part of; empty: none
  std::optional<double> share;
  int runs = 1;
  double spread = 0;  // (largest - smallest) / median over the runs
};

/// {"machine": ..., "cores": ..., "flags": ..., "memory_gib": ..., "kernel": ..., "compiler": ...}, to standard output.
void print_machine();
void print(const figure& f);
/// {"note": ...}: a sentence that the page shows. Without quotes.
void print_note(const std::string& text);

double median(std::vector<double> values);
double spread(const std::vector<double>& values);

/// CPU seconds that this process has used, all threads together.
double process_seconds();
/// CPU seconds that one thread takes to read and add up the values, of some runs: what memory gives.
std::vector<double> memory_read_seconds(std::span<const float> values, int runs = 9);
double wall_seconds();

}  // namespace isthmus::bench
