#pragma once

namespace isthmus::actors {

/// One visitor of a variant out of a lambda for each alternative.
template <class... Handlers>
struct overloaded : Handlers... {
  using Handlers::operator()...;
};

}  // namespace isthmus::actors
