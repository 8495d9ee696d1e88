"""The service's IDL, loaded anew, and a runtime to look into."""

import pytest
import thriftpy2
from thrift_peers import IDL


@pytest.fixture(scope="module")
def idl(tmp_path_factory):
    path = tmp_path_factory.mktemp("idl") / "shop.thrift"
    path.write_text(IDL)
    return path


@pytest.fixture(scope="module")
def thrift(idl):
    return thriftpy2.load(str(idl), module_name="shop_thrift")
