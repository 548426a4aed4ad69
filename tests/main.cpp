#define BOOST_TEST_MODULE isthmus
#include <boost/test/unit_test.hpp>
